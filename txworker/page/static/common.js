// What both pages use: making elements, formatting, asking, following. Text of jobs becomes text nodes, never markup.

export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function bytes(count) {
  let unit = "";
  for (const bigger of "KMGTPE") {
    if (count < 999.5) break;
    count /= 1024;
    unit = bigger;
  }
  return unit ? `${count < 99.95 ? count.toFixed(1) : count.toFixed(0)} ${unit}iB` : `${count} B`;
}

export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [minutes, hours, days] = [Math.floor(whole / 60), Math.floor(whole / 3600), Math.floor(whole / 86400)];
  if (!minutes) return `${whole}s`;
  if (!hours) return `${minutes}m${two(whole % 60)}s`;
  return days ? `${days}d${two(hours % 24)}h` : `${hours}h${two(minutes % 60)}m`;
}

// How long a job has run; a short one that is done to a hundredth of a second.
export function ran(job, now) {
  const seconds = (job.finished ?? now) - job.started;
  return job.finished !== null && seconds < 10 ? `${Math.max(seconds, 0).toFixed(2)}s` : span(seconds);
}

export function clock(seconds) {
  if (seconds === null) return "";
  const at = new Date(seconds * 1000);
  return at.toDateString() === new Date().toDateString() ? dayTime(at) : `${isoDay(at)} ${dayTime(at).slice(0, 5)}`;
}

export function wholeTime(seconds) {
  if (seconds === null) return "";
  const at = new Date(seconds * 1000);
  const zone = new Intl.DateTimeFormat([], { timeZoneName: "short" }).formatToParts(at).find((part) => part.type === "timeZoneName");
  return `${isoDay(at)} ${dayTime(at)} ${zone.value}`;
}

const two = (number) => String(number).padStart(2, "0");

const isoDay = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;

// The same in every language: toLocaleTimeString() has fewer digits in some, and other ones, words or no colons in others.
export const dayTime = (at) => `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;

export const stateWords = (state) => state.replace("_", " ");

export const UNFINISHED = ["pending", "running", "stopping"];

export function jobAddress(job) {
  return `job?${new URLSearchParams({ worker: job.worker, id: job.id })}`;
}

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Error("the page's server does not answer; is `txworker web` still running?");
  }
  if (answer.ok) return answer;
  let sentence = `${answer.status} ${answer.statusText}`;
  try {
    sentence = (await answer.json()).error || sentence;
  } catch { /* no JSON: the status says it */ }
  throw Object.assign(new Error(sentence), { status: answer.status });
}

// The list's filters, for the way back from a job. Where a browser stores nothing for a site, the way leads to all jobs.
export function keepFilters(query) {
  try {
    sessionStorage.setItem("filters", query);
  } catch { /* storage is switched off */ }
}

export function keptFilters() {
  try {
    return sessionStorage.getItem("filters") || "";
  } catch {
    return "";
  }
}

export function showNotice(sentence) {
  const notice = byId("notice");
  notice.hidden = !sentence;
  setText(notice, sentence || "");
}

// Follows events; address() says where, anew for each connection. A page in the background holds no connection.
export class Follower {
  #source = null;
  #timer = null;
  #idle = null;
  #handlers;
  #address;
  #lost;
  #done = false;

  constructor(address, handlers, lost) {
    this.#address = address;
    this.#handlers = handlers;
    this.#lost = lost;
    document.addEventListener("visibilitychange", () => this.#seen());
    window.addEventListener("pagehide", () => this.#close());
    window.addEventListener("pageshow", (event) => event.persisted && this.restart());
    this.restart();
    this.#seen(); // a link may be opened in the background
  }

  restart() {
    this.#close();
    if (this.#done) return;
    const address = this.#address();
    const source = (this.#source = new EventSource(address));
    source.onopen = () => this.#lost("");
    for (const [name, handler] of Object.entries(this.#handlers)) {
      source.addEventListener(name, (event) => {
        if (source === this.#source) handler(JSON.parse(event.data), event);
      });
    }
    source.onerror = () => {
      if (source !== this.#source) return;
      this.#close();
      this.#lost("the connection to the page's server is lost; trying again");
      this.#timer = setTimeout(() => this.#explain(address), 2000);
    };
  }

  finish() {
    this.#done = true;
    this.#close();
  }

  #seen() {
    clearTimeout(this.#idle);
    if (document.hidden) this.#idle = setTimeout(() => this.#close(), 10000);
    else if (!this.#source) this.restart();
  }

  // An EventSource does not say why it failed, so the same is asked for in another way.
  async #explain(address) {
    const [timer, stop] = [this.#timer, new AbortController()];
    try {
      await ask(address, { signal: stop.signal });
      stop.abort();
      if (timer === this.#timer) this.restart();
    } catch (error) {
      if (timer !== this.#timer) return; // closed, or restarted, meanwhile
      if (error.status && error.status < 500) return this.#lost(error.message);
      this.#lost(error.message);
      this.#timer = setTimeout(() => this.#explain(address), 3000);
    }
  }

  #close() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#source) this.#source.close();
    this.#source = null;
  }
}

export function showWorkers(workers) {
  const list = byId("workers");
  list.replaceChildren(...workers.map((worker) => {
    const item = el("li", { class: worker.state, title: worker.problem || worker.addr });
    item.append(el("b", {}, worker.name), " ", el("span", { class: "is" }, worker.state));
    if (worker.running !== undefined && worker.state === "connected") item.append(` · ${worker.running} running`);
    return item;
  }));
}
