"use strict";
// Small parts: making elements, bringing what is shown up to date, and figures for people.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("td.right", {title: "…"}, child, "text", …). Text stays text, whatever is in it. */
function h(what, attributes, ...children) {
  const [name, ...classes] = what.split(".");
  const svg = ["svg", "rect", "polyline", "title"].includes(name);
  const made = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  if (classes.length) made.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes || {})) {
    // By the object model: the page's policy forbids style attributes.
    if (key.startsWith("--")) made.style.setProperty(key, value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** Make `old` look like `fresh`, keeping its elements: focus, selection and open details stay. */
function bring(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open" && name !== "style") old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (fresh.style) {
    const part = fresh.style.getPropertyValue("--part");
    if (part !== old.style.getPropertyValue("--part")) old.style.setProperty("--part", part);
  }
  fill(old, [...fresh.childNodes]);
}

/** Bring the children of `parent` up to date; those with a data-key are known by it. */
function fill(parent, wanted) {
  const keyed = new Map();
  for (const child of parent.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let place = parent.firstChild;
  for (const fresh of wanted.filter((one) => one !== null)) {
    const key = fresh.dataset && fresh.dataset.key;
    const known = key ? keyed.get(key) : place;
    const alike = known && known.nodeName === fresh.nodeName
      && (key || !(known.dataset && known.dataset.key));
    if (!alike) {
      parent.insertBefore(fresh, place);
      continue;
    }
    if (known !== place) parent.insertBefore(known, place);
    else place = place.nextSibling;
    if (fresh.nodeType === Node.TEXT_NODE) {
      if (known.data !== fresh.data) known.data = fresh.data;
    } else bring(known, fresh);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

const sum = (list, of) => list.reduce((total, item) => total + (of(item) || 0), 0);

function seconds(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size < 0.0095) return (value * 1000).toFixed(1) + " ms";
  if (size < 0.9995) return (value * 1000).toFixed(0) + " ms";
  if (size < 99.5) return value.toFixed(1) + " s";
  if (size < 5400) return (value / 60).toFixed(0) + " min";
  if (size < 129600) return (value / 3600).toFixed(1) + " h";
  return (value / 86400).toFixed(1) + " d";
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  return value < 1e9 ? (value / 1e6).toFixed(0) + " MB" : (value / 1e9).toFixed(2) + " GB";
}

const count = (value) => value === null || value === undefined ? "–"
  : String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u2009");

const clock = (value) => new Date(value * 1000).toLocaleTimeString([], { hour12: false });

const perSecond = (value) => value === null ? "–" : value.toFixed(value < 9.95 ? 1 : 0);

const plural = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** A bar for `used` of `most`: amber from 80 %, red when it is full. */
function meter(used, most) {
  const part = most ? Math.min(1, used / most) : 0;
  const colour = part >= 1 ? ".red" : part >= 0.8 ? ".amber" : "";
  return h("span.metered", {}, h(`span.meter${colour}`, {}, h("i", { "--part": String(part) })),
    `${used}/${most}`);
}

/** A line of the last values, the newest at the right. */
function sparkline(values, length) {
  const most = Math.max(...values, 1e-9);
  const points = values.map((value, index) =>
    `${100 - (values.length - 1 - index) * 100 / (length - 1)},${20 - 18 * value / most}`);
  return h("svg", { viewBox: "0 0 100 22", preserveAspectRatio: "none", "aria-hidden": "true" },
    h("polyline", { points: points.join(" ") }));
}

/** A table: columns are [title, class], rows are [key, class, cells]; a cell may be a td. */
function table(kind, columns, rows) {
  const cell = (content, index) => content instanceof HTMLTableCellElement ? content
    : h("td" + (columns[index][1] || ""), { "data-label": columns[index][2] }, content);
  return h("table" + kind, {},
    h("thead", {}, h("tr", {}, columns.map(([title, look]) => h("th" + (look || ""), {}, title)))),
    h("tbody", {}, rows.map(([key, look, cells]) =>
      h("tr" + (look || ""), { "data-key": key }, cells.map(cell)))));
}
