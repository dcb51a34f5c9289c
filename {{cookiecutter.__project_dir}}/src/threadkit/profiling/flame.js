"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  let type = data.column, inverted = false, root, zoomed, search = "";
  data.types.forEach(([name, unit], i) => $("type").add(new Option(name + " (" + unit + ")", i, false, i === type)));
  const shown = (v) => {
    const unit = data.types[type][1];
    if (unit === "nanoseconds") return v >= 1e9 ? (v / 1e9).toFixed(2) + " s" : (v / 1e6).toFixed(1) + " ms";
    if (unit === "bytes") return v >= 1048576 ? (v / 1048576).toFixed(1) + " MiB" : (v / 1024).toFixed(1) + " KiB";
    return String(v);
  };
  const build = () => {
    const made = (name, file, up) =>
      ({ name, file, value: 0, lines: new Map(), children: new Map(), up });
    root = made("all", "", null);
    for (const [stack, values] of data.stacks) {
      const value = Math.max(0, values[type]);
      if (!value) continue;
      let node = root;
      node.value += value;
      for (const number of inverted ? [...stack].reverse() : stack) {
        const [name, file, line] = data.frames[number], key = name + "\n" + file;
        let child = node.children.get(key);
        if (!child) node.children.set(key, (child = made(name, file, node)));
        child.value += value;
        child.lines.set(line, (child.lines.get(line) || 0) + value);
        node = child;
      }
    }
    zoomed = root;
  };
  const colour = (text) => {
    let h = 0;
    for (const c of text) h = (h * 31 + c.codePointAt(0)) | 0;
    return "hsl(" + (Math.abs(h) % 55) + " 85% " + (62 + (Math.abs(h >> 8) % 12)) + "%)";
  };
  const title = (node) => {
    const part = root.value ? (100 * node.value / root.value).toFixed(1) : "0";
    const lines = [...node.lines].filter(([line]) => line).sort((a, b) => b[1] - a[1]);
    const shares = lines.slice(0, 5).map(([line, v]) => "line " + line + ": " + shown(v));
    return [node.name, node.file, shown(node.value) + ", " + part + " %", ...shares].filter(Boolean).join("\n");
  };
  const draw = () => {
    const graph = $("graph"), width = graph.clientWidth, bars = document.createDocumentFragment();
    let deepest = 0, hits = 0;
    const bar = (node, left, wide, depth, out) => {
      deepest = Math.max(deepest, depth);
      const b = document.createElement("button");
      b.style.left = left + "px";
      b.style.width = Math.max(1, wide - 0.5) + "px";
      b.style.top = depth * 19 + "px";
      b.style.background = colour(node.file + node.name);
      const hit = search && (node.name + " " + node.file).toLowerCase().includes(search);
      b.className = (out ? "out" : "") + (hit ? " hit" : "");
      if (wide > 24) b.textContent = node.name;
      b.title = title(node);
      b.onclick = () => { zoomed = node; draw(); };
      bars.append(b);
      return hit;
    };
    const walk = (node, left, wide, depth, counted) => {
      if (wide < 1) return;
      const hit = bar(node, left, wide, depth, false);
      if (hit && !counted) hits += node.value;
      let x = left;
      for (const child of [...node.children.values()].sort((a, b) => a.name < b.name ? -1 : 1)) {
        const w = wide * child.value / node.value;
        walk(child, x, w, depth + 1, counted || hit);
        x += w;
      }
    };
    const above = [];
    for (let n = zoomed.up; n; n = n.up) above.unshift(n);
    above.forEach((n, i) => bar(n, 0, width, i, true));
    if (zoomed.value) walk(zoomed, 0, width, above.length, false);
    graph.style.height = (deepest + 1) * 19 + "px";
    graph.replaceChildren(bars);
    $("about").textContent = root.value
      ? shown(zoomed.value) + " of " + shown(root.value) + (search ? "; found " + (100 * hits / zoomed.value).toFixed(1) + " %" : "")
      : "nothing was seen";
  };
  const again = () => { build(); draw(); };
  $("type").onchange = (e) => { type = +e.target.value; again(); };
  $("invert").onclick = () => { inverted = !inverted; $("invert").setAttribute("aria-pressed", inverted); again(); };
  $("reset").onclick = () => { zoomed = root; draw(); };
  $("search").oninput = (e) => { search = e.target.value.trim().toLowerCase(); draw(); };
  addEventListener("keydown", (e) => { if (e.key === "Escape") { zoomed = root; draw(); } });
  addEventListener("resize", draw);
  again();
})();
