// One job: its record, what it uses, its output, and the button that stops it.
import { Follower, UNFINISHED, ask, byId, bytes, el, keptFilters, setText, showNotice, ran, showWorkers, span, stateWords, wholeTime } from "./common.js";
import { POWERS, Plot, addSamples } from "./plots.js";
import { Viewer } from "./viewer.js";

const query = new URLSearchParams(location.search);
const which = { worker: query.get("worker") || "", id: query.get("id") || "" };
const stderr = query.get("stderr") === "1";
let [job, mayStop, asked, offset, ahead] = [null, false, false, null, 0]; // ahead: the server's clock of ours, in seconds

byId("back").href = keptFilters() ? `./?${keptFilters()}` : "./";

const plots = {
  cpu: new Plot(byId("cpu-plot"), (value) => String(Math.round(value * 100) / 100), { least: 0.1 }),
  memory: new Plot(byId("memory-plot"), bytes, { steps: POWERS }),
  output: new Plot(byId("output-plot"), bytes, { steps: POWERS }),
};
const samples = { time: [], cpu: [], memory: [], output: [] };

const viewer = new Viewer(
  (from, limit) => `api/output?${new URLSearchParams({ ...which, offset: from, limit, ...(stderr ? { stderr: "1" } : {}) })}`,
  (from) => {
    offset = from;
    follower.restart();
  },
);

function address() {
  const more = { ...which, ...(stderr ? { stderr: "1" } : {}) };
  if (viewer.ended) more.output = "0";
  else if (offset !== null) more.offset = offset;
  return `api/job/events?${new URLSearchParams(more)}`;
}

function decoded(text) {
  const binary = atob(text);
  const data = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) data[at] = binary.charCodeAt(at);
  return data;
}

const follower = new Follower(address, {
  worker(worker) {
    showWorkers([worker]);
    if (worker.state === "away") showNotice(`The worker is away, and is asked again until it is back: ${worker.problem}`);
    else showNotice("");
  },
  row(row) {
    job = { ...(job || {}), ...row };
    showJob();
  },
  record(record) {
    job = record;
    ahead = record.now - Date.now() / 1000;
    showJob();
    showRecord();
  },
  gone(sentence) {
    showNotice(`${sentence[0].toUpperCase()}${sentence.slice(1)}.`);
    follower.finish();
  },
  samples(more) {
    addSamples(samples, more);
    showPlots();
  },
  skip(at) {
    offset = at;
    viewer.skip(at);
  },
  output({ offset: at, data }, event) {
    viewer.append(at, decoded(data));
    offset = Number(event.lastEventId);
  },
  waiting(sentence) {
    viewer.wait(sentence);
  },
  end(position) {
    viewer.end(position);
  },
  lost(sentence) {
    viewer.lose(sentence);
  },
}, (sentence) => showNotice(sentence));

function showPlots() {
  byId("plots").hidden = samples.time.length < 2;
  if (samples.time.length < 2) return;
  for (const [name, plot] of Object.entries(plots)) plot.show(samples.time, samples[name]);
  const last = samples.time.length - 1;
  setText(byId("cpu-now"), String(samples.cpu[last]));
  setText(byId("memory-now"), bytes(samples.memory[last]));
  setText(byId("output-now"), bytes(samples.output[last]));
}

function showJob() {
  document.title = `${stateWords(job.state)} · ${job.command.slice(0, 60)} · txworker`;
  setText(byId("command"), job.command);
  const state = byId("state");
  state.className = `state ${job.state}`;
  setText(state, stateWords(job.state));
  showFacts();
  const error = job.allError ?? job.error;
  byId("error").hidden = !error;
  setText(byId("error"), error || "");
  const running = UNFINISHED.includes(job.state);
  byId("stop").hidden = !(mayStop && running);
  byId("stop").disabled = job.state === "stopping" && asked;
  byId("streams").hidden = !job.separateStderr;
}

function showFacts() {
  if (!job) return;
  const facts = [];
  const add = (name, value) => value && facts.push(el("span", {}, `${name} `, el("b", {}, value)));
  if (job.outcome) add(/^\d+$/.test(job.outcome) ? "exit code" : "ended by", job.outcome);
  if (job.started !== null) add(job.finished === null ? "running for" : "ran", ran(job, Date.now() / 1000 + ahead));
  add("started", wholeTime(job.started));
  add("output", bytes(job.output) + (job.truncated ? ", cut" : ""));
  for (const [name, value] of Object.entries(job.labels)) facts.push(el("span", {}, el("bdi", { class: "label" }, `${name}=${value}`)));
  byId("facts").replaceChildren(...facts);
}

function showRecord() {
  const lines = [];
  const add = (name, value, mono = false) => {
    if (value === "" || value === null || value === undefined || value === 0) return;
    lines.push(el("dt", {}, name), el("dd", mono ? { class: "mono" } : {}, String(value)));
  };
  const seconds = (value) => (value === null ? null : span(value));
  add("Job", job.id, true);
  add("Worker", job.worker);
  add("Executable", job.executable, true);
  add("Path", job.path, true);
  add("Arguments", job.args.map((word) => word || '""').join("\n"), true);
  add("Directory", job.directory, true);
  add("User", job.user);
  add("Variables of the request", job.envNames.join(" "), true);
  add("Labels", Object.entries(job.allLabels).map(([name, value]) => `${name}=${value}`).join("\n"), true);
  add("Request id", job.requestId, true);
  add("Created", wholeTime(job.created));
  add("Started", wholeTime(job.started));
  add("Finished", wholeTime(job.finished));
  add("Process", job.pid);
  add("Timeout", seconds(job.timeout));
  add("Quiet timeout", seconds(job.quietTimeout));
  add("Limits", Object.entries(job.limits).map(([name, value]) => `${name} ${/Bytes/.test(name) ? bytes(value) : value}`).join("\n"));
  if (job.finished !== null) {
    add("CPU time", `${job.userCpu.toFixed(2)} s of its own, ${job.systemCpu.toFixed(2)} s of the kernel`);
    add("Largest process", bytes(job.maxRss));
  }
  add("Leftovers ended", job.leftoversEnded);
  add("Taken over", job.takeovers ? `by ${job.takeovers} later ${job.takeovers === 1 ? "worker" : "workers"}` : "");
  add("Core dump", job.coreDumped ? "yes" : "");
  byId("record").replaceChildren(...lines);
}

// ---- stopping

const dialog = byId("confirm");
byId("stop").addEventListener("click", () => {
  setText(byId("confirm-text"), `${job.command} (${job.id.slice(0, 8)} on ${job.worker}) gets TERM now, and KILL after the grace period.`);
  dialog.showModal();
  byId("cancel").focus();
});
byId("cancel").addEventListener("click", () => dialog.close());
byId("confirmed").addEventListener("click", async () => {
  dialog.close();
  const grace = byId("grace").value === "" ? null : Number(byId("grace").value);
  asked = true;
  try {
    const answer = await ask("api/stop", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Txworker": "stop" },
      body: JSON.stringify({ ...which, grace }),
    });
    job = { ...job, ...(await answer.json()) };
    showNotice("");
    showJob();
  } catch (error) {
    asked = false;
    showNotice(`The job could not be stopped: ${error.message}`);
  }
  byId("output").focus();
});

for (const [id, value] of [["stdout", false], ["stderr", true]]) {
  byId(id).href = `job?${new URLSearchParams({ ...which, ...(value ? { stderr: "1" } : {}) })}`;
  if (value === stderr) byId(id).setAttribute("aria-current", "page");
}

ask("api/workers").then((answer) => answer.json()).then((answer) => {
  mayStop = answer.mayStop;
  if (job) showJob();
}).catch((error) => showNotice(error.message));
setInterval(() => job && UNFINISHED.includes(job.state) && showFacts(), 1000);
