// Shows a window of output: only the rows that are in view are elements. What is beyond the window is fetched.
import { ask, byId, bytes, el, setText } from "./common.js";
import { Lines } from "./lines.js";

const ROW = 18;
const SPARE_ROWS = 20;
const FETCHED = 256 * 1024;
const NEWLINE = 10;

export class Viewer {
  lines = new Lines();
  total = 0; // bytes that there are, as far as is known
  #address; // (offset, limit) => where a range is
  #resume; // (offset) => follow from there
  #box = byId("output");
  #space = byId("space");
  #visible = byId("visible");
  #follow = byId("follow");
  #wrap = byId("wrap");
  #position = byId("position");
  #live = true; // what is appended comes right after the window
  #fetching = null;
  #cut = false; // the next output begins in the middle of a line
  #ended = false;
  #lost = ""; // why no more of the output is shown
  #painted = []; // what the elements show
  #drawing = 0;
  #dragged = 0;

  constructor(address, resume) {
    this.#address = address;
    this.#resume = resume;
    this.#box.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#box.addEventListener("keydown", (event) => this.#key(event));
    this.#wrap.addEventListener("change", () => this.#relayout());
    this.#follow.addEventListener("change", () => this.#follow.checked && this.toEnd());
    this.#position.addEventListener("input", () => {
      clearTimeout(this.#dragged);
      this.#dragged = setTimeout(() => this.#jump(Number(this.#position.value) / 1000), 120);
    });
    byId("to-start").addEventListener("click", () => this.go(0));
    new ResizeObserver(() => this.#relayout()).observe(this.#box);
  }

  // The next output is at that offset: at the beginning, or because what is between was too much to show.
  skip(offset) {
    this.total = Math.max(this.total, offset);
    if (!this.#live || offset === this.lines.end) return;
    this.lines.clear(offset);
    this.#cut = offset > 0;
    this.#draw();
  }

  append(offset, data) {
    this.#lost = "";
    this.total = Math.max(this.total, offset + data.length);
    if (!this.#live) return this.#say();
    const known = this.lines.end - offset;
    if (known < 0) this.lines.clear(offset);
    else if (known >= data.length) return;
    else data = data.subarray(known);
    const newline = this.#cut ? data.indexOf(NEWLINE) : -1;
    if (newline >= 0) {
      this.lines.clear(this.lines.start + newline + 1);
      data = data.subarray(newline + 1);
    }
    this.#cut = false;
    this.lines.append(data);
    const dropped = this.lines.shrink(false);
    if (dropped && !this.#follow.checked) this.#box.scrollTop -= dropped * ROW;
    this.#draw();
  }

  // Until more comes.
  wait(sentence) {
    this.#lost = `The output is waited for: ${sentence}`;
    this.#draw();
  }

  end(position) {
    this.#ended = true;
    this.#lost = "";
    this.total = Math.max(this.total, position);
    this.#draw();
  }

  lose(sentence) {
    this.end(0);
    this.#lost = `This output cannot be shown: ${sentence}`;
  }

  get ended() {
    return this.#ended;
  }

  // The end of what is there, and from then on what comes.
  toEnd() {
    this.#follow.checked = true;
    if (this.#live) return this.#draw();
    const offset = Math.max(0, this.total - FETCHED / 2);
    this.lines.clear(offset);
    this.#cut = offset > 0;
    this.#live = true;
    this.#fetching = null;
    if (this.#ended) this.#fetch(offset, "end");
    else this.#resume(offset);
    this.#draw();
  }

  async go(offset) {
    this.#follow.checked = false;
    this.#live = false;
    this.lines.clear(offset);
    await this.#fetch(offset, "start");
  }

  #jump(part) {
    if (part >= 0.999) return this.toEnd();
    return this.go(Math.floor(part * this.total));
  }

  // One part at a time; a jump to elsewhere makes what is under way superfluous.
  async #fetch(offset, where) {
    const mine = (this.#fetching = {});
    setText(byId("output-status"), "");
    try {
      const limit = where === "before" ? this.lines.start - offset : FETCHED;
      const data = new Uint8Array(await (await ask(this.#address(offset, limit))).arrayBuffer());
      if (mine !== this.#fetching) return;
      if (where === "before") this.#takeBefore(offset, data);
      else this.#takeAfter(offset, data, where);
    } catch (error) {
      if (mine !== this.#fetching) return;
      this.#fetching = null;
      setText(byId("output-status"), `This part could not be fetched: ${error.message}`);
      return;
    }
    this.#fetching = null;
    this.#draw();
    this.#fetchMore();
  }

  #takeBefore(offset, data) {
    if (offset + data.length !== this.lines.start) return;
    const added = this.lines.prepend(data, offset);
    this.#size();
    this.#box.scrollTop += added * ROW;
    this.#shrinkEnd();
  }

  #takeAfter(offset, data, where) {
    if (offset !== this.lines.end) return;
    let from = 0;
    if (where !== "after" && offset > 0) { // not in the middle of a line
      from = data.indexOf(NEWLINE) + 1;
      this.lines.clear(offset + from);
    }
    this.lines.append(data.subarray(from));
    this.total = data.length ? Math.max(this.total, this.lines.end) : this.lines.end;
    const dropped = this.lines.shrink(false);
    this.#size();
    if (dropped) this.#box.scrollTop -= dropped * ROW;
    if (where === "start") this.#box.scrollTop = 0;
    if (this.lines.end >= this.total && where !== "end") this.#catchUp();
  }

  #shrinkEnd() {
    const end = this.lines.end;
    this.lines.shrink(true);
    if (this.lines.end < end) this.#live = false;
  }

  // The window has come to the end of what there is: from here on it is live again.
  #catchUp() {
    this.#live = true;
    if (!this.#ended) this.#resume(this.lines.end);
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.#box;
    const atEnd = scrollTop + clientHeight >= scrollHeight - ROW * 2;
    if (this.#live && this.lines.end >= this.total) this.#follow.checked = atEnd;
    this.#paint();
    this.#fetchMore();
  }

  // What is just beyond the window's edges is fetched before it is looked at: nobody can scroll to where nothing is.
  #fetchMore() {
    if (this.#fetching) return;
    const { scrollTop, clientHeight, scrollHeight } = this.#box;
    if (scrollTop < clientHeight && this.lines.start > 0 && this.lines.size > 0 && !this.#follow.checked) {
      this.#fetch(Math.max(0, this.lines.start - FETCHED), "before");
    } else if (!this.#live && scrollTop + 2 * clientHeight > scrollHeight) {
      this.#fetch(this.lines.end, "after");
    }
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Home") this.go(0);
    else if (event.key === "End") this.toEnd();
    else return;
    event.preventDefault();
  }

  #relayout() {
    const top = Math.floor(this.#box.scrollTop / ROW);
    const part = this.lines.rows.length ? top / this.lines.rows.length : 0;
    this.lines.layout(this.#wrap.checked ? this.#columns() : 4096);
    this.#size();
    if (this.#follow.checked) this.#box.scrollTop = this.#box.scrollHeight;
    else this.#box.scrollTop = Math.round(part * this.lines.rows.length) * ROW;
    this.#draw();
  }

  #columns() {
    const probe = el("span", {}, "0".repeat(100));
    this.#visible.append(probe);
    const width = probe.getBoundingClientRect().width / 100;
    probe.remove();
    return Math.max(20, Math.floor((this.#box.clientWidth - 24) / (width || 8)));
  }

  #size() {
    this.#space.style.height = `${this.lines.rows.length * ROW + 8}px`;
  }

  #draw() {
    if (this.#drawing) return;
    this.#drawing = requestAnimationFrame(() => {
      this.#drawing = 0;
      this.#size();
      if (this.#follow.checked) this.#box.scrollTop = this.#box.scrollHeight;
      this.#paint();
    });
  }

  // Rows that are the same keep their elements, and with them what the user has selected there.
  #paint() {
    const rows = this.lines.rows;
    const first = Math.max(0, Math.floor(this.#box.scrollTop / ROW) - SPARE_ROWS);
    const last = Math.min(rows.length, Math.ceil((this.#box.scrollTop + this.#box.clientHeight) / ROW) + SPARE_ROWS);
    const partial = this.lines.partial && !this.#ended && last === rows.length;
    const shown = rows.slice(first, last);
    const painted = [first, partial, ...shown];
    if (painted.length !== this.#painted.length || painted.some((one, at) => one !== this.#painted[at])) {
      this.#painted = painted;
      this.#visible.style.top = `${first * ROW + 4}px`;
      this.#visible.replaceChildren(...shown.map((row) => el("div", { class: "line" }, ...row.map(spanOf))));
      if (partial) this.#visible.lastElementChild?.classList.add("partial");
    }
    this.#say();
  }

  #say() {
    const { start, end } = this.lines;
    this.total = Math.max(this.total, end);
    const all = start === 0 && end >= this.total;
    setText(byId("range"), all ? bytes(this.total) : `${bytes(end - start)} of ${bytes(this.total)} shown`);
    this.#position.closest("label").hidden = all && this.total < FETCHED;
    if (document.activeElement !== this.#position || this.#follow.checked) {
      const rows = this.lines.rows.length || 1;
      const part = this.#box.scrollTop / (rows * ROW);
      const at = this.#follow.checked ? this.total : start + part * (end - start);
      this.#position.value = String(this.total ? Math.round((at / this.total) * 1000) : 1000);
    }
    this.#position.setAttribute("aria-valuetext", `byte ${start} to ${end} of ${this.total}`);
    byId("to-start").disabled = start === 0 && this.#box.scrollTop === 0;
    let words = this.#lost;
    if (!words && !this.total) words = this.#ended ? "The job has printed nothing." : "Nothing is printed yet; output appears here as the job writes it.";
    if (words || !byId("output-status").textContent.startsWith("This part")) setText(byId("output-status"), words);
  }
}

function spanOf([text, style]) {
  if (!style.flags && style.fore === "" && style.back === "") return document.createTextNode(text);
  let { flags, fore, back } = style;
  if (flags.includes("r")) [fore, back] = [back === "" ? "inverse" : back, fore === "" ? "inverse" : fore];
  const run = el("span", {}, text);
  for (const flag of flags.replace("r", "")) run.classList.add(flag);
  paint(run, "color", "f", fore, "--terminal");
  paint(run, "backgroundColor", "g", back, "--text");
  return run;
}

function paint(run, property, prefix, colour, inverse) {
  if (colour === "") return;
  if (colour === "inverse") run.style[property] = `var(${inverse})`;
  else if (typeof colour === "number") run.classList.add(`${prefix}${colour}`);
  else run.style[property] = colour;
}
