// The loop: ask, remember, show. One question at a time, none while nobody looks.

const INTERVAL = 1000, PATIENCE = 3000, HISTORY = 60;
const byId = (id) => document.getElementById(id);

const state = {
  answer: null, before: null, past: [], rows: [],
  cancelling: new Map(), heard: 0, fault: "", paused: false,
};

async function ask() {
  try {
    const response = await fetch("vars?pid=all", { signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    const answer = await response.json();
    [state.before, state.answer] = [state.answer, answer];
    state.heard = Date.now();
    state.fault = "";
    const now = figures(answer, state.before);
    state.past = [...state.past, now].slice(-HISTORY);
  } catch (error) {
    state.fault = error.name === "TimeoutError" ? `no answer in ${PATIENCE / 1000} s` : error.message;
  }
  show();
}

/** In flight, oldest first. While someone points at the list, nothing in it moves: what has
    ended stays until they leave, so that a button is never another one's at the last moment. */
function currentRows() {
  const rows = state.answer.workers.flatMap((worker) => worker.requests.list.map((request) =>
    ({ key: `${worker.pid}-${request.number}`, pid: worker.pid, request, ended: false })));
  rows.sort((a, b) => b.request.age_seconds - a.request.age_seconds);
  const held = byId("requests").matches(":hover, :focus-within");
  if (held) {
    const fresh = new Map(rows.map((row) => [row.key, row]));
    const kept = state.rows.map((row) => fresh.get(row.key) || { ...row, ended: true });
    const known = new Set(kept.map((row) => row.key));
    return [...kept, ...rows.filter((row) => !known.has(row.key))];
  }
  for (const key of state.cancelling.keys()) {
    if (!rows.some((row) => row.key === key)) state.cancelling.delete(key);
  }
  return rows;
}

function show() {
  const age = Math.round((Date.now() - state.heard) / 1000);
  const { answer, before } = state;
  const old = state.fault && (answer ? `The service does not answer this page (${state.fault}): `
    + `these numbers are ${age} s old.` : `The service does not answer this page (${state.fault}).`);
  document.body.classList.toggle("old", Boolean(state.fault));
  if (!answer) {
    fill(byId("findings"), [finding("error", old)]);
    return;
  }
  state.rows = currentRows();
  const left_out = sum(answer.workers, (one) => one.requests.in_flight - one.requests.list.length);
  const wrong = sum(answer.workers, (one) => one.findings.length) + answer.missing.length;
  document.title = `${wrong ? `(${wrong}) ` : ""}${answer.service}: console`;
  byId("title").textContent = answer.service;
  byId("state").textContent = `${plural(answer.workers.length, "worker")}`
    + (answer.missing.length ? `, ${answer.missing.length} silent` : "")
    + `, ${clock(answer.now)}` + (state.paused ? ", paused" : "");
  fill(byId("findings"), findings(answer, old));
  fill(byId("tiles"), tiles(state.past.at(-1), state.past));
  fill(byId("requests"), requests(state.rows, state.cancelling, left_out));
  fill(byId("slow"), slow(answer));
  fill(byId("database"), database(answer));
  fill(byId("limits"), limits(answer));
  fill(byId("workers"), workers(answer, before));
}

async function cancel(button) {
  const { cancel: key, id, pid, number } = button.dataset;
  state.cancelling.set(key, "cancelling …");
  show();
  try {
    const response = await fetch(
      `requests/${encodeURIComponent(id)}/cancel?pid=${pid}&number=${number}`, { method: "POST" });
    const document = await response.json();
    state.cancelling.set(key, response.ok ? "cancelled" : document.detail || document.title);
  } catch (error) {
    state.cancelling.set(key, `failed: ${error.message}`);
  }
  show();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-cancel]");
  if (button) cancel(button);
});

byId("pause").addEventListener("click", () => {
  state.paused = !state.paused;
  byId("pause").setAttribute("aria-pressed", String(state.paused));
  byId("pause").textContent = state.paused ? "go on" : "pause";
  if (state.answer) show();
});

async function run() {
  for (;;) {
    if (!state.paused && !document.hidden) await ask();
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  }
}

fill(byId("profiles"), profiles());
run();
