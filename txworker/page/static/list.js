// The list of jobs. Its filters are the address's; the server filters, and sends what changes.
import { Follower, UNFINISHED, ask, byId, bytes, clock, el, jobAddress, keepFilters, setText, showNotice, showWorkers, ran, stateWords, wholeTime } from "./common.js";
import { Plot, WHOLE } from "./plots.js";

const STATES = ["pending", "running", "stopping", "succeeded", "failed", "stopped", "timed_out", "lost"];
const STEP = 200;
const MOST = 5000; // rows: the server sends no more
const HARD = "\u00a0"; // stands for a space within a label, where spaces separate labels

const form = byId("filters");
const body = byId("jobs").tBodies[0];
const rows = new Map(); // key → { job, row }
let [limit, total, known, ahead] = [STEP, 0, [], 0];

const plots = {
  running: new Plot(byId("running-plot"), (value) => String(value), { steps: WHOLE }),
  launches: new Plot(byId("launches-plot"), (value) => String(Math.round(value * 100) / 100), { bars: true }),
  failures: new Plot(byId("failures-plot"), (value) => String(value), { ink: "--bad", bars: true, steps: WHOLE }),
};

for (const state of STATES) {
  byId("states").append(el("label", { class: "chip" }, el("input", { type: "checkbox", name: "state", value: state }), el("span", {}, stateWords(state))));
}

// ---- filters, which are the address

const asWord = (label) => label.replaceAll(" ", HARD);

function fromAddress() {
  const query = new URLSearchParams(location.search);
  const states = query.getAll("state").flatMap((text) => text.split(","));
  for (const box of form.querySelectorAll("[name=state]")) box.checked = states.includes(box.value);
  form.elements.text.value = query.get("text") || "";
  form.elements.label.value = query.getAll("label").map(asWord).join(" ");
  for (const name of ["worker", "since"]) choose(form.elements[name], query.get(name) || "");
}

function choose(select, value) {
  if (value && ![...select.options].some((option) => option.value === value)) select.append(el("option", { value }, value));
  select.value = value;
}

function filters() {
  const query = new URLSearchParams();
  const states = [...form.querySelectorAll("[name=state]:checked")].map((box) => box.value);
  if (states.length) query.set("state", states.join(","));
  for (const label of form.elements.label.value.split(/[ \t]+/).filter(Boolean)) query.append("label", label.replaceAll(HARD, " "));
  for (const name of ["text", "worker", "since"]) if (form.elements[name].value.trim()) query.set(name, form.elements[name].value.trim());
  return query;
}

let typing = 0;
function filtered() {
  clearTimeout(typing);
  const query = String(filters());
  if (query !== location.search.slice(1)) history.replaceState(null, "", query ? `?${query}` : location.pathname);
  limit = STEP;
  keepFilters(query);
  follower.restart();
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", filtered);
form.addEventListener("input", (event) => {
  clearTimeout(typing);
  if (event.target.type === "search") typing = setTimeout(filtered, 250);
});
form.addEventListener("reset", () => setTimeout(filtered));
window.addEventListener("popstate", () => (fromAddress(), filtered()));
byId("more").addEventListener("click", () => {
  limit += STEP;
  follower.restart();
});

// ---- rows

const keyOf = (job) => `${job.worker}\n${job.id}`;
const newer = (a, b) => b.created - a.created || (a.id < b.id ? 1 : -1);

function rowOf(job) {
  const row = el("tr", { role: "row" });
  const cell = (attributes, ...children) => el("td", { role: "cell", ...attributes }, ...children);
  row.append(
    cell({}, el("span", { class: "state" })),
    cell({ class: "command" }, el("a", { href: jobAddress(job), title: job.command }, el("bdi", {}, job.command))),
    cell({ class: "worker-column" }, job.worker),
    cell({}, ...Object.entries(job.labels).map(([name, value]) => labelButton(name, value))),
    cell({ class: "number", title: wholeTime(job.started), "data-name": "started" }),
    cell({ class: "number", "data-name": "ran" }),
    cell({ class: "number", "data-name": "output" }),
    cell({}, el("a", { href: jobAddress(job), class: "mono quiet", title: job.id }, job.id.slice(0, 8))),
  );
  return row;
}

function labelButton(name, value) {
  const text = `${name}=${value}`;
  const button = el("button", { type: "button", class: "label", title: `only jobs with ${text}` }, el("bdi", {}, text));
  button.addEventListener("click", () => {
    form.elements.label.value = asWord(text);
    filtered();
  });
  return button;
}

function fill({ job, row }) {
  const state = row.cells[0].firstChild;
  state.className = `state ${job.state}`;
  const outcome = job.outcome && job.outcome !== "0" ? ` ${job.outcome}` : "";
  setText(state, stateWords(job.state) + outcome);
  state.title = job.error;
  setText(row.cells[4], clock(job.started));
  row.cells[4].title = wholeTime(job.started);
  setText(row.cells[6], job.output ? bytes(job.output) + (job.truncated ? " (cut)" : "") : "");
  fillRan({ job, row });
}

function fillRan({ job, row }) {
  const now = Date.now() / 1000 + ahead;
  setText(row.cells[5], job.started === null ? "" : ran(job, now));
}

function put(job) {
  const key = keyOf(job);
  const known = rows.get(key);
  if (known) {
    known.job = job;
    fill(known);
    return;
  }
  const entry = { job, row: rowOf(job) };
  entry.row.dataset.key = key;
  fill(entry);
  rows.set(key, entry);
  let before = body.firstElementChild;
  while (before && newer(rows.get(before.dataset.key).job, job) < 0) before = before.nextElementSibling;
  body.insertBefore(entry.row, before);
}

function remove(key) {
  const entry = rows.get(key);
  if (entry) entry.row.remove();
  rows.delete(key);
}

function trim() {
  while (rows.size > limit) remove(body.lastElementChild.dataset.key);
}

function said(message) {
  total = message.total;
  ahead = message.now - Date.now() / 1000;
  trim();
  const some = rows.size < total ? `${rows.size} of ` : "";
  setText(byId("status"), `${some}${total} ${total === 1 ? "job" : "jobs"}${String(filters()) ? ", filtered" : ""}`);
  byId("more").hidden = rows.size >= total || limit >= MOST;
  byId("jobs").hidden = !rows.size;
  showEmpty();
}

function showEmpty() {
  const empty = byId("empty");
  empty.hidden = rows.size > 0;
  if (rows.size) return;
  const away = known.filter((worker) => worker.state === "away");
  let [title, text] = ["No job yet", "Start one: txworker run echo hello"];
  if (String(filters())) [title, text] = ["No job is like that", "Clear removes the filters."];
  else if (away.length && away.length === known.length) {
    [title, text] = ["No worker answers", `${away[0].problem || ""} It is asked again every two seconds.`];
  } else if (known.some((worker) => worker.state === "connecting")) [title, text] = ["Connecting", "The worker has not answered yet."];
  empty.replaceChildren(el("strong", {}, title), text);
}

// ---- what the server sends

const follower = new Follower(() => {
  const query = filters();
  query.set("limit", String(limit));
  return `api/events?${query}`;
}, {
  workers(workers) {
    known = workers;
    showWorkers(workers);
    byId("jobs").classList.toggle("one", workers.length < 2);
    form.elements.worker.closest("label").hidden = workers.length < 2;
    for (const worker of workers) choose(form.elements.worker, worker.name);
    choose(form.elements.worker, new URLSearchParams(location.search).get("worker") || "");
    showEmpty();
  },
  list(message) {
    const wanted = new Set(message.jobs.map(keyOf));
    for (const key of [...rows.keys()]) if (!wanted.has(key)) remove(key);
    for (const job of message.jobs.reverse()) put(job);
    said(message);
  },
  changes(message) {
    for (const [worker, id] of message.gone) remove(`${worker}\n${id}`);
    for (const job of message.jobs.sort(newer).reverse()) put(job);
    said(message);
  },
  series(series) {
    for (const [name, plot] of Object.entries(plots)) plot.show(series.time, series[name]);
    const last = (name) => series[name][series[name].length - 1] ?? 0;
    setText(byId("running-now"), String(last("running")));
    setText(byId("launches-now"), String(series.launches[series.launches.length - 2] ?? 0));
    setText(byId("failures-now"), `${series.failures.reduce((sum, one) => sum + one, 0)} in an hour`);
  },
}, showNotice);

fromAddress();
filtered();
setInterval(() => {
  for (const entry of rows.values()) if (UNFINISHED.includes(entry.job.state)) fillRan(entry);
}, 1000);
