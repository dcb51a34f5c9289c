// What the page shows: each function turns the workers' documents into elements.

const severities = ["error", "warning", "notice"];
const words = { error: "ERROR", warning: "WARNING", notice: "NOTICE", fine: "OK" };

const rooms = (worker, kind) => Object.entries((worker.stats.tasks || {})[kind] || {});

/** The same named object of several workers as one: [name, [[pid, stats], …]], by name. */
function byName(workers, kind) {
  const found = new Map();
  for (const worker of workers) {
    for (const [name, stats] of rooms(worker, kind)) {
      if (!found.has(name)) found.set(name, []);
      found.get(name).push([worker.pid, stats]);
    }
  }
  return [...found].sort(([a], [b]) => a < b ? -1 : 1);
}

const total = (members, key) => sum(members, ([, stats]) => stats[key]);

/** Text in which the address of a profile is a link to its page of text, of all workers. */
function linked(text) {
  return text.split(/(\/debug\/pprof\/[a-z]+)/).map((part, index) => index % 2
    ? h("a", { href: `${part}?seconds=5&pid=all&format=top` }, part) : part);
}

function finding(severity, text, where) {
  return h(`p.finding.${severity}`, {}, h("b", {}, words[severity]), linked(text),
    where ? h("small", {}, where) : null);
}

/** The same finding of several workers is one line: the first one's words, and who else. */
function findingsOfWorkers(workers) {
  const found = new Map();
  for (const worker of workers) {
    for (const one of worker.findings) {
      const known = found.get(one.about);
      if (!known) found.set(one.about, { ...one, pids: [worker.pid] });
      else {
        if (severities.indexOf(one.severity) < severities.indexOf(known.severity)) {
          Object.assign(known, one);
        }
        known.pids.push(worker.pid);
      }
    }
  }
  return [...found.values()].map((one) => [one.severity, one.text,
    (one.pids.length > 1 ? "workers " : "worker ") + one.pids.join(", ")]);
}

function findings(answer, age) {
  const found = [];
  for (const missing of answer.missing) {
    found.push(["error", `Worker ${missing.pid} does not answer: ${missing.reason}`, ""]);
  }
  found.push(...findingsOfWorkers(answer.workers));
  found.sort((a, b) => severities.indexOf(a[0]) - severities.indexOf(b[0]));
  if (age) found.unshift(["error", age, ""]);
  return found.length ? found.map((one) => finding(...one))
    : [finding("fine", "Nothing is wrong as far as these numbers tell.")];
}

function tile(title, value, note, values, look) {
  return h("div.tile", {}, h("span", {}, title),
    h("p", {}, h("b" + (look || ""), {}, value), " ", h("small", {}, note)),
    sparkline(values, HISTORY));
}

function tiles(now, past) {
  const series = (key) => past.map((point) => point[key] || 0);
  return [
    tile("running", count(now.running), `of ${count(now.places)}`, series("running"),
      now.running >= now.places ? ".red" : ""),
    tile("waiting", count(now.waiting), `of ${count(now.queue)}`, series("waiting"),
      now.waiting ? ".amber" : ""),
    tile("answered", perSecond(now.rate), "a second", series("rate")),
    tile("refused", perSecond(now.refused), "a second", series("refused"), now.refused ? ".red" : ""),
    tile("answered 5xx", perSecond(now.failed), "a second", series("failed"),
      now.failed ? ".red" : ""),
    tile("connections", count(now.connections), `of ${count(now.pool)}`, series("connections")),
    tile("interpreter late", seconds(now.late), "p99", series("late"),
      now.late > 0.02 ? ".amber" : ""),
    tile("memory", bytes(now.memory), "resident", series("memory")),
  ];
}

/** The figures of the tiles, from all workers; rates need the answer before. */
function figures(answer, before) {
  const of = answer.workers;
  const tally = (matches) => sum(of, (worker) => {
    const old = before && before.workers.find((other) => other.pid === worker.pid);
    if (!old) return 0;
    const counts = (document) => sum(Object.entries(document.requests.answered),
      ([status, number]) => matches(status) ? number : 0);
    return (counts(worker) - counts(old)) / Math.max(0.1, worker.now - old.now);
  });
  const admission = of.map((worker) => ((worker.stats.tasks || {}).bulkhead || {}).admission || {});
  // The kit's own worker keeps the line before it gives out threads; another one has none.
  const lines = of.map((worker) => worker.stats.line || {});
  const refused = (worker) => {
    const line = worker.stats.line || {};
    return (line.refused || 0) + (line.expired || 0)
      + sum(Object.values((worker.stats.admission || {}).refused || {}), (number) => number);
  };
  const refusedSince = sum(of, (worker) => {
    const old = before && before.workers.find((other) => other.pid === worker.pid);
    return old ? (refused(worker) - refused(old)) / Math.max(0.1, worker.now - old.now) : 0;
  });
  const pools = of.map((worker) => worker.stats.database || {});
  return {
    running: sum(admission, (stats) => stats.inside),
    places: sum(admission, (stats) => stats.max_concurrent),
    waiting: sum(admission, (stats) => stats.waiting) + sum(lines, (stats) => stats.waiting),
    queue: sum(lines, (stats) => stats.most_waiting) || sum(admission, (stats) => stats.max_waiting),
    refused: before ? refusedSince : null,
    rate: before ? tally(() => true) : null,
    failed: before ? tally((status) => status >= "500") : null,
    connections: sum(pools, (stats) => (stats.read_in_use || 0) + (stats.write_in_use || 0)),
    pool: sum(pools, (stats) => (stats.read_size || 0) + (stats.write_size || 0)),
    late: Math.max(0, ...of.map((worker) => (worker.stats.pulse || {}).p99 || 0)),
    memory: sum(of, (worker) => worker.process.rss_bytes),
  };
}

function doing(request) {
  const span = request.doing;
  return [
    span ? [h(`span.kind.k-${span.kind}`, {}, span.kind), " ", span.name,
      h("small.faint", {}, ", for " + seconds(request.age_seconds - span.at))]
      : [h(`span.kind.s-${request.state}`, {}, request.state || ""), " ",
        request.calls ? request.calls + "()" : ""],
    request.at ? h("span.faint", {}, request.at) : null,
  ];
}

function left(request) {
  if (request.cancelled && request.left_seconds > 0) return h("span.amber", {}, "cancelled");
  if (request.left_seconds === null) return request.route ? "no limit" : "–";
  if (request.left_seconds < 0) return h("span.red", {}, seconds(-request.left_seconds) + " over");
  return seconds(request.left_seconds);
}

function requests(rows, cancelling, left_out) {
  const title = h("h2", {}, "In flight ",
    h("small", {}, rows.length ? `oldest first${left_out ? `, ${left_out} more` : ""}` : "nothing"));
  if (!rows.length) return [title];
  return [title, table(".cards", [["age", ".right"], ["left", ".right"], ["request", ".name"],
    ["does now", ".wide"], ["worker"], [""]],
  rows.map(({ key, pid, request, ended }) => {
    const told = cancelling.get(key);
    const button = h("button.danger", {
      type: "button", "data-cancel": key, "data-id": request.id, "data-pid": pid,
      "data-number": request.number, disabled: Boolean(told || ended),
      "aria-label": `cancel ${request.method} ${request.path}`,
    }, ended ? "ended" : told || "cancel");
    return [key, ended ? ".ended" : "", [
      h("td.right", { "data-label": "age" }, seconds(request.age_seconds)),
      h("td.right", { "data-label": "left" }, left(request)),
      h("td.name.all", {}, `${request.method} ${request.route || request.path}`,
        request.route && request.route !== request.path ? h("span.faint", {}, request.path) : null,
        h("span.faint.id", { title: "request id" }, request.id)),
      h("td.wide.all", {}, doing(request)),
      h("td", { "data-label": "worker" }, pid),
      h("td.right.act", {}, button),
    ]];
  }))];
}

function strip(slow) {
  const end = slow.seconds;
  return h("svg.strip", { viewBox: `0 0 ${end} 1`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${plural(slow.spans.length, "span")} in ${seconds(end)}` },
  // Tasks and joins are around other spans: drawn first, they stay in the back.
  [...slow.spans].sort((a, b) => inner(a) - inner(b)).map((span) => bar(span, end)));
}

const inner = (span) => ["join", "task"].includes(span.kind) ? 0 : 1;

function bar(span, end) {
  const width = span.seconds === null ? end - span.at : span.seconds;
  return h(`rect.k-${span.kind}`, { x: span.at, y: 0, height: 1,
    width: Math.max(end / 400, Math.min(width, end - span.at)) },
  h("title", {}, `${span.kind} ${span.name}: ${seconds(span.seconds)}`));
}

function slow(answer) {
  const rows = answer.workers.flatMap((worker) =>
    worker.slow.map((one) => ({ pid: worker.pid, ...one })));
  rows.sort((a, b) => (a.reason === b.reason ? 0 : a.reason === "late" ? -1 : 1)
    || (a.reason === "late" ? b.at - a.at : b.seconds - a.seconds));
  const late = rows.filter((one) => one.reason === "late");
  const others = rows.filter((one) => one.reason !== "late").slice(0, 8);
  const shown = [...late.slice(0, 10), ...others];
  return [
    h("h2", {}, "Slow requests ", h("small", {}, shown.length
      ? "those beyond half their time limit, then the slowest of the last minutes"
      : "none yet")),
    shown.length ? h("p.legend", {}, ["query", "call", "load", "wait", "sleep", "task", "join"].map(
      (kind) => h(`span.k-${kind}`, {}, kind)), h("span", {}, "empty: its own code")) : null,
    ...shown.map((one) => slowRow(one)),
  ];
}

function slowRow(one) {
  const key = `${one.pid}-${one.id}-${one.at}`;
  const look = one.reason === "late" ? (one.seconds >= one.limit_seconds ? ".red" : ".amber") : "";
  return h("details", { "data-key": key },
    h("summary", {}, h(`span.number${look}`, {}, seconds(one.seconds)),
      h(`span.number${one.status >= 500 ? ".red" : ""}`, {}, one.status),
      h("span.name", {}, `${one.method} ${one.route || one.path}`),
      h("span.number.faint", {}, clock(one.at)), strip(one)),
    h("div.spans", {},
      h("p.faint.mono", {}, `${one.path} · limit ${seconds(one.limit_seconds)} · CPU `
        + `${seconds(one.cpu_seconds)} · worker ${one.pid} · request ${one.id}`
        + (one.waited_seconds ? ` · had waited ${seconds(one.waited_seconds)} for a thread` : "")
        + (one.spans_dropped ? ` · ${one.spans_dropped} more spans` : "")),
      h("table", {}, h("tbody", {}, one.spans.map((span) => h("tr", {},
        h("td.right", {}, "+" + seconds(span.at)),
        h("td.right", {}, span.seconds === null ? "not ended" : seconds(span.seconds)),
        h("td", {}, h(`span.k-${span.kind}`, {}, span.kind)),
        h("td.wide", {}, span.name),
        h("td.bar", {}, h("svg.strip", { viewBox: `0 0 ${one.seconds} 1`,
          preserveAspectRatio: "none", "aria-hidden": "true" }, bar(span, one.seconds)))))))));
}

function database(answer) {
  const statements = answer.workers.flatMap((worker) =>
    ((worker.stats.database || {}).statements || []).map((one) => ({ pid: worker.pid, ...one })));
  statements.sort((a, b) => b.seconds - a.seconds);
  const pools = answer.workers.flatMap((worker) => ["read", "write"].map((pool) =>
    [worker.pid, pool, worker.stats.database || {}]));
  return [
    h("h2", {}, "Database ", h("small", {}, statements.length
      ? `${plural(statements.length, "statement")} running` : "no statement running")),
    statements.length ? table(".cards", [["runs for", ".right"], ["statement"], ["pool"], ["worker"]],
      statements.map((one) => [`${one.pid}-${one.thread_id}-${one.statement}`, "", [
        h("td.right", { "data-label": "runs for" }, seconds(one.seconds)),
        h("td.wide.all", {}, one.statement,
          one.request_id ? h("span.faint", {}, "request " + one.request_id) : null),
        h("td", { "data-label": "pool" }, one.pool),
        h("td", { "data-label": "worker" }, one.pid)]])) : null,
    table("", [["pool"], ["in use"], ["idle", ".right"], ["waiting", ".right"]],
      pools.map(([pid, pool, stats]) => [`${pid}-${pool}`, "", [
        h("td.wide", {}, `${pool} `, h("small.faint", {}, `worker ${pid}`)),
        meter(stats[pool + "_in_use"] || 0, stats[pool + "_size"] || 0),
        count(stats[pool + "_idle"]), count(stats[pool + "_waiting"] || 0)]])),
  ];
}

function limits(answer) {
  const of = answer.workers;
  const rows = [];
  const row = (kind, name, members, used, most, waiting, queue, refused, seldom) => rows.push(
    [`${kind}-${name}`, "", [
      h("td.name.all", {}, name, " ", h("small.faint", {}, kind)),
      h("td", { "data-label": "inside", title: each(members, used, most) },
        meter(total(members, used), total(members, most))),
      h("td", { "data-label": "waiting", title: each(members, waiting, queue) },
        meter(total(members, waiting), total(members, queue))),
      h(`td.right${total(members, refused) ? ".amber" : ""}`, { "data-label": "refused" },
        count(total(members, refused))),
      h("td.right", { "data-label": "done" }, seldom ? count(total(members, seldom)) : "–")]]);
  const lines = of.filter((worker) => worker.stats.line)
    .map((worker) => [worker.pid, worker.stats.line]);
  if (lines.length) {
    row("line", "requests", lines, "running", "places", "waiting", "most_waiting", "refused", "");
  }
  for (const [name, members] of byName(of, "bulkhead")) {
    row("bulkhead", name, members, "inside", "max_concurrent", "waiting", "max_waiting", "rejected", "admitted");
  }
  for (const [name, members] of byName(of, "executor")) {
    row("executor", name, members, "active", "max_workers", "queued", "queue_size", "rejected", "completed");
  }
  for (const [name, members] of byName(of, "background")) {
    row("background", name, members, "running", "max_workers", "pending", "queue_size", "refused", "finished");
  }
  const first = ([key]) => ["line-requests", "bulkhead-admission"].indexOf(key) + 1 || 3;
  rows.sort((a, b) => first(a) - first(b));
  return [
    h("h2", {}, "Limits ", h("small", {}, "all workers together")),
    table(".cards", [["", ".name"], ["inside"], ["waiting"], ["refused", ".right"],
      ["done", ".right"]], rows),
    h("div.columns", {}, caches(of), upstreams(of)),
  ];
}

const each = (members, used, most) => members.map(([pid, stats]) =>
  `worker ${pid}: ${stats[used] ?? 0} of ${stats[most] ?? 0}`).join("\n");

function caches(of) {
  const found = byName(of, "cache");
  if (!found.length) return null;
  return h("div", {}, h("h2", {}, "Caches"),
    table(".cards", [["", ".name"], ["entries", ".right"], ["hits", ".right"], ["loading", ".right"],
      ["failed", ".right"]],
    found.map(([name, members]) => {
      const hits = total(members, "hits") + total(members, "stale_hits");
      const asked = hits + total(members, "misses");
      const failed = total(members, "load_failures");
      return [name, "", [h("td.name.all", {}, name),
        h("td.right", { "data-label": "entries" }, count(total(members, "entries"))),
        h("td.right", { "data-label": "hits" }, asked ? Math.round(100 * hits / asked) + " %" : "–"),
        h("td.right", { "data-label": "loading" }, count(total(members, "loads_in_flight"))),
        h(`td.right${failed ? ".amber" : ""}`, { "data-label": "failed" }, count(failed))]];
    })));
}

function upstreams(of) {
  const found = byName(of, "client");
  if (!found.length) return null;
  return h("div", {}, h("h2", {}, "Upstreams"),
    table(".cards", [["", ".name"], ["calls now"], ["calls", ".right"], ["failed", ".right"],
      ["breaker", ".right"]],
    found.map(([name, members]) => {
      const breakers = [...new Set(members.map(([, stats]) => stats.breaker).filter(Boolean))];
      return [name, "", [h("td.name.all", {}, name),
        h("td", { "data-label": "calls now" },
          meter(total(members, "in_flight"), total(members, "max_connections"))),
        h("td.right", { "data-label": "calls" }, count(total(members, "calls"))),
        h(`td.right${total(members, "failed") ? ".amber" : ""}`, { "data-label": "failed" },
          count(total(members, "failed"))),
        h("td.right", { "data-label": "breaker" }, breakers.join(", ") || "–")]];
    })));
}

function workers(answer, before) {
  const rows = answer.workers.map((worker) => {
    const { process, stats, readiness } = worker;
    const pulse = stats.pulse || {}, garbage = stats.garbage || {};
    const old = before && before.workers.find((other) => other.pid === worker.pid);
    const cpu = old ? 100 * (process.cpu_seconds - old.process.cpu_seconds)
      / Math.max(0.1, worker.now - old.now) : null;
    const old_generation = (garbage.generations || []).at(-1) || {};
    return [String(worker.pid), "", [
      h("td", { "data-label": "worker" }, worker.pid),
      h("td", { "data-label": "ready" }, readiness.ready === null ? h("span.faint", {}, "not asked")
        : readiness.ready ? h("span.green", {}, "ready") : h("span.red", {}, "not ready")),
      h("td.right", { "data-label": "up" }, seconds(worker.uptime_seconds)),
      h("td.right", { "data-label": "requests" }, worker.requests.in_flight),
      h("td.right", { "data-label": "CPU" }, cpu === null ? "–" : cpu.toFixed(0) + " %"),
      h("td.right", { "data-label": "memory" }, bytes(process.rss_bytes)),
      h("td.right", { "data-label": "threads", title: [...Object.entries(worker.threads.by_state),
        ...Object.entries(worker.threads.by_name)].map(([name, number]) => `${number} × ${name}`)
        .join("\n") }, worker.threads.count),
      h("td.right", { "data-label": "descriptors" }, count(process.descriptors)),
      h("td.right", { "data-label": "late p50 p99 max" },
        [pulse.p50, pulse.p99, pulse.max].map(seconds).join("  ")),
      h("td.right", { "data-label": "collections" }, count(old_generation.collections)),
      h("td.right", { "data-label": "paused" }, seconds(garbage.pause_seconds_total)),
    ]];
  });
  for (const missing of answer.missing) {
    rows.push([String(missing.pid), "", [missing.pid, h("td.red", { colspan: "10" }, missing.reason)]]);
  }
  return [h("h2", {}, "Workers"), table(".cards", [["worker"], ["ready"], ["up", ".right"],
    ["requests", ".right"], ["CPU", ".right"], ["memory", ".right"], ["threads", ".right"],
    ["descriptors", ".right"], ["late: p50 p99 max", ".right"], ["full collections", ".right"],
    ["paused in all", ".right"]], rows)];
}

function profiles() {
  const rows = [
    ["profile", "where CPU time goes, 10 s", "seconds=10"],
    ["wall", "where all threads spend their time, 5 s", "seconds=5"],
    ["block", "what they wait for, 5 s", "seconds=5"],
    ["goroutine", "every thread and where it is, now", ""],
    ["heap", "what is allocated in 5 s, and by whom", "seconds=5"],
    ["mutex", "who holds the locks that others wait for, 5 s", "seconds=5"],
    ["threadcreate", "who started the threads", ""],
  ];
  return [
    h("h2", {}, "Profiles ", h("small", {}, "of all workers; ",
      h("a", { href: "pprof/" }, "/debug/pprof/"), " has the rest")),
    table(".cards", [["", ".name"], ["", ".wide"], ["", ".right"]], rows.map(([name, about, query]) => {
      const address = (more) => `pprof/${name}?${[query, "pid=all", more].filter(Boolean).join("&")}`;
      return [name, "", [
        h("td.name", {}, h("a", { href: address("format=html") }, name)),
        h("td.wide.all", {}, about),
        h("td.right", {}, h("a", { href: address("format=top") }, "text"), " ",
          h("a", { href: address("") }, "for go tool pprof"))]];
    })),
  ];
}
