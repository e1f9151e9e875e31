// The page: asks the server what is new, and shows it. All texts go through `element`, which makes text of them.

import { Chart } from "./chart.js";
import { ask, byId, element, look, readable, short, show, table } from "./parts.js";

const MILLISECONDS_BETWEEN = 1500;
const MILLISECONDS_WHILE_READING = 700;
const WINDOWS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
const MAX_KEYS = 10;
const MAX_BANDS = 12;
const STATES = ["running", "failed", "stale", "stopped", "queued", "waiting", "finished"];

const view = { group: null, x: "step", window: 1, low: null, high: null, logX: false, logY: false, bands: true };
const charts = new Map(); // measure -> { chart, lines, tags }
const hidden = new Set(); // names of lines
const order = new Map(); // name of a line -> its number, so that it keeps its look
const stateTags = new Map();
let state = null;
let chosen = []; // measures that are drawn
let isChosen = false; // by default, once there are some, or by hand
let opened = null; // number of the run whose details are shown
let sorted = { column: -1, down: false };
let round = 0;

async function update() {
  round += 1;
  const mine = round;
  try {
    const found = await ask("api/state", null, stateTags);
    if (found) state = found;
    if (found) showState();
    for (const measure of chosen) {
      await updateChart(measure);
      if (mine !== round) return; // something else is asked for by now
    }
    showLegend();
    if (opened !== null) await showDetails(opened);
    tellStatus(false);
  } catch (error) {
    if (mine !== round) return;
    tellStatus(true, error);
  }
  schedule();
}

let timer = null;
function schedule() {
  clearTimeout(timer);
  const isReading = state && state.n_read < state.runs.length;
  timer = setTimeout(() => (document.hidden ? schedule() : update()), isReading ? MILLISECONDS_WHILE_READING : MILLISECONDS_BETWEEN);
}

function tellStatus(isLost, error) {
  const status = byId("status");
  status.classList.toggle("lost", isLost);
  if (isLost) {
    status.textContent = readable(`no answer (${error.message}): is the command still running?`);
    return;
  }
  const { runs, n_read, n_left_out } = state;
  const counts = STATES.map((kind) => [runs.filter((run) => run.state === kind).length, kind]);
  const words = counts.filter(([n]) => n).map(([n, kind]) => `${n} ${kind}`);
  const reading = n_read < runs.length ? ` – read ${n_read} of ${runs.length}, samples of the others` : "";
  const more = n_left_out ? ` – ${n_left_out} that came later are too many to be followed: name fewer folders` : "";
  status.textContent = `${runs.length} runs: ${words.join(", ")}${reading}${more}`;
  status.dataset.read = n_read;
}

function showState() {
  if (!isChosen && state.shown.length) {
    chosen = [...state.shown];
    isChosen = true;
  }
  fillGroups();
  fillMeasures();
  showGrids();
  showRuns();
  showDifferences();
}

function fillChoices() {
  const labels = WINDOWS.map((n) => element("option", { value: n }, n === 1 ? "1 row" : `${n} rows`));
  byId("window").replaceChildren(...labels);
}

function fillGroups() {
  const names = { run: "each run", setting: "means of settings" };
  const wanted = ["run", "setting", ...state.keys];
  const select = byId("group");
  if (view.group !== null && !wanted.includes(view.group)) view.group = null;
  if ([...select.options].map((option) => option.value).join("\n") !== wanted.join("\n")) {
    select.replaceChildren(
      ...wanted.map((key) => element("option", { value: key }, names[key] ?? `means by ${key}`)),
    );
  }
  if (select.value !== group()) order.clear(); // other lines have other looks
  select.value = group();
}

function fillMeasures() {
  const box = byId("measures");
  if (box.dataset.names === state.measures.join("\n")) return;
  box.dataset.names = state.measures.join("\n");
  box.replaceChildren(
    ...state.measures.map((name) => {
      const tick = element("input", { type: "checkbox", checked: chosen.includes(name) });
      tick.addEventListener("change", () => {
        isChosen = true;
        chosen = tick.checked ? [...chosen, name] : chosen.filter((one) => one !== name);
        if (!tick.checked && charts.has(name)) charts.get(name).chart.node.remove();
        if (!tick.checked) charts.delete(name);
        update();
      });
      return element("label", {}, tick, " ", name);
    }),
  );
}

// As it was chosen, or as it is best for so many runs.
function group() {
  return view.group ?? state.group;
}

async function updateChart(measure) {
  if (!charts.has(measure)) {
    const chart = new Chart(measure, zoom);
    charts.set(measure, { chart, lines: [], tags: new Map() });
    byId("charts").append(chart.node);
  }
  const entry = charts.get(measure);
  const query = { measure, group: group(), x: view.x, window: view.window, log: view.logX ? 1 : 0 };
  if (view.low !== null) query.low = view.low;
  if (view.high !== null) query.high = view.high;
  const lines = await ask("api/curves", query, entry.tags);
  if (lines) entry.lines = lines;
  for (const line of entry.lines) if (!order.has(line.name)) order.set(line.name, order.size);
  if (lines) draw(entry);
}

function draw(entry) {
  for (const line of entry.lines) {
    line.look = look(order.get(line.name), order.size, state.colours);
    line.visible = !hidden.has(line.name);
    line.banded = entry.lines.length <= MAX_BANDS;
  }
  const xName = view.x === "step" ? "step" : "seconds";
  entry.chart.set(entry.lines, { ...view, xName });
}

function redraw() {
  for (const entry of charts.values()) draw(entry);
}

function zoom(low, high) {
  [view.low, view.high] = [low, high];
  byId("whole").disabled = low === null;
  redraw();
  update();
}

function showLegend() {
  const wanted = byId("find").value.toLowerCase();
  const names = new Map();
  for (const { lines } of charts.values()) for (const line of lines) names.set(line.name, line);
  const list = byId("legend");
  const key = JSON.stringify([[...names.keys()], [...hidden], wanted, order.size, group()]);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const focused = document.activeElement?.dataset?.name;
  list.replaceChildren(
    ...[...names.values()]
      .filter((line) => line.name.toLowerCase().includes(wanted))
      .map((line) => element("li", {}, legendButton(line))),
  );
  const again = [...list.querySelectorAll("button")].find((button) => button.dataset.name === focused);
  if (again) again.focus();
}

function legendButton(line) {
  const button = element("button", { type: "button", "aria-pressed": String(!hidden.has(line.name)) }, lineMark(line.look), element("span", {}, line.name));
  button.title = readable(line.name);
  button.dataset.name = line.name;
  button.addEventListener("click", () => {
    if (!hidden.delete(line.name)) hidden.add(line.name);
    redraw();
    showLegend();
  });
  return button;
}

function lineMark({ colour, dash }) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 30 10");
  svg.setAttribute("aria-hidden", "true");
  const mark = document.createElementNS(space, "line");
  const places = { x1: 0, x2: 30, y1: 5, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash.join(" ") };
  for (const [name, value] of Object.entries(places)) mark.setAttribute(name, value);
  svg.append(mark);
  return svg;
}

function showGrids() {
  byId("grids").replaceChildren(...state.grids.map(gridSection));
}

function gridSection(grid) {
  const total = Object.values(grid.counts).reduce((sum, n) => sum + n, 0);
  const bar = element("div", { class: "bar", "aria-hidden": "true" });
  for (const kind of ["finished", "running", "failed", "stale", "stopped"]) {
    const part = element("span", { class: kind });
    part.style.width = `${(100 * (grid.counts[kind] ?? 0)) / total}%`;
    bar.append(part);
  }
  const left = grid.left ? `; about ${grid.left} left` : "";
  const parts = [element("h2", {}, grid.name), element("p", {}, `${grid.said}${left}`), bar];
  for (const [title, kind] of [["Failed", "failed"], ["Running", "running"], ["Queue", "waiting"]]) {
    if (grid[kind].length) parts.push(listed(title, kind, grid[kind], grid));
  }
  return element("section", { class: "grid" }, ...parts);
}

function listed(title, kind, runs, grid) {
  const many = { failed: ["failed", "stale"], running: ["running"], waiting: ["queued", "waiting", "stopped"] }[kind];
  const n = many.reduce((sum, one) => sum + (grid.counts[one] ?? 0), 0);
  const items = runs.map((run) => {
    const lines = run.lines.length ? [element("pre", { tabindex: "0" }, run.lines.join("\n"))] : [];
    return element("li", {}, openButton(run.number, run.name), run.reason ? `: ${run.reason}` : "", ...lines);
  });
  if (n > runs.length) items.push(element("li", {}, `and ${n - runs.length} more`));
  const box = element("details", { open: isOpen(`${grid.name} ${kind}`, kind === "failed") }, element("summary", {}, `${title} (${n})`), element("ul", {}, ...items));
  box.addEventListener("toggle", () => unfolded.set(`${grid.name} ${kind}`, box.open));
  return box;
}

const unfolded = new Map();
function isOpen(name, usually) {
  return unfolded.get(name) ?? usually;
}

function openButton(number, name) {
  const button = element("button", { type: "button" }, name);
  button.addEventListener("click", () => showDetails(number, true));
  return button;
}

function showRuns() {
  const measures = [...new Set(state.runs.flatMap((run) => Object.keys(run.measures)))];
  const keys = state.keys.slice(0, MAX_KEYS);
  const columns = ["run", "state", "step", "left", ...measures, ...keys];
  const rows = state.runs.map((run) => ({
    run,
    cells: [run.name, run.state, run.step, run.left, ...measures.map((name) => run.measures[name] ?? "-"), ...keys.map((_, i) => run.values[i])],
  }));
  const wanted = byId("filter").value.toLowerCase();
  const kept = rows.filter(({ run, cells }) => [...cells, run.reason].some((cell) => String(cell ?? "").toLowerCase().includes(wanted)));
  if (sorted.column >= 0) kept.sort((a, b) => compare(a.cells[sorted.column], b.cells[sorted.column]) * (sorted.down ? -1 : 1));
  byId("n-shown").textContent = `${kept.length} of ${rows.length}`;
  const head = element("tr", {}, ...columns.map(headCell));
  byId("runs").replaceChildren(element("thead", {}, head), element("tbody", {}, ...kept.map(runRow)));
}

function headCell(name, column) {
  const order = sorted.column !== column ? "none" : sorted.down ? "descending" : "ascending";
  const arrow = { none: "", ascending: " ▲", descending: " ▼" }[order];
  const button = element("button", { type: "button" }, `${name}${arrow}`);
  button.addEventListener("click", () => {
    sorted = { column, down: sorted.column === column && !sorted.down };
    showRuns();
  });
  return element("th", { scope: "col", "aria-sort": order }, button);
}

function runRow({ run, cells }) {
  const [name, kind, step, ...rest] = cells;
  const of = run.n_steps ? ` / ${show(run.n_steps)}` : "";
  const row = element(
    "tr",
    { "aria-current": run.number === opened ? "true" : null },
    element("th", { scope: "row" }, openButton(run.number, name)),
    element("td", { class: `state-${STATES.includes(kind) ? kind : "other"}`, title: run.reason }, run.reason ? `${kind} (!)` : kind),
    element("td", {}, `${show(step)}${of}`),
    ...rest.map((cell) => element("td", { title: cell }, short(cell, 40))),
  );
  row.addEventListener("click", () => showDetails(run.number, true));
  return row;
}

function compare(a, b) {
  const [x, y] = [a, b].map((cell) => Number.parseFloat(String(cell ?? "").replaceAll(",", "")));
  if (!Number.isNaN(x) && !Number.isNaN(y) && x !== y) return x - y;
  return String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true });
}

function showDifferences() {
  const rows = state.keys.map((key, place) => {
    const counts = new Map();
    for (const run of state.runs) counts.set(run.values[place], (counts.get(run.values[place]) ?? 0) + 1);
    const words = [...counts].map(([value, n]) => `${value === "" ? "(not there)" : short(value, 100)} (${n})`);
    return [key, words.slice(0, 40).join(", ") + (words.length > 40 ? ` and ${words.length - 40} more` : "")];
  });
  const target = byId("differences");
  if (rows.length) table(target, ["key", "values, and of how many runs"], rows);
  else target.replaceChildren(element("tbody", {}, element("tr", {}, element("td", {}, "None."))));
}

async function showDetails(number, byHand = false) {
  opened = number;
  const found = await ask("api/run", { number });
  const place = { top: 0, ...Object.fromEntries([...document.querySelectorAll("#details-body pre")].map((pre, i) => [i, pre.scrollTop])) };
  byId("details-title").textContent = readable(found.name);
  const parts = [];
  if (found.reason) parts.push(element("p", { class: "problem" }, found.reason));
  const configRows = Object.entries(found.config).map(([key, value]) => `${key}: ${value}`).join("\n");
  parts.push(
    element(
      "div",
      { class: "columns" },
      element("div", {}, element("h3", {}, "Last lines"), element("pre", { tabindex: "0" }, found.log.join("\n") || "Nothing yet.")),
      element("div", {}, element("h3", {}, "Config"), element("pre", { tabindex: "0" }, configRows || "Not read yet.")),
    ),
  );
  if (found.samples.length) parts.push(element("h3", {}, "What it wrote, by step"), sampleList(found.samples));
  if (found.dialogs.length) parts.push(element("h3", {}, "Dialogs of the newest evaluation"), dialogList(found.dialogs));
  byId("details-body").replaceChildren(...parts);
  document.querySelectorAll("#details-body pre").forEach((pre, i) => (pre.scrollTop = place[i] ?? 0));
  byId("details").hidden = false;
  if (byHand) {
    byId("details").scrollIntoView({ block: "start" });
    showRuns();
  }
}

function sampleList(rows) {
  const boxes = rows.toReversed().map((row) =>
    element("details", { open: isOpen(`step ${row.step}`, row === rows[rows.length - 1]) }, element("summary", {}, `step ${show(row.step)}`),
      ...(Array.isArray(row.samples) ? row.samples : []).map((sample) => element("pre", {}, `${sample.prompt} ➜ ${sample.written}`))),
  );
  boxes.forEach((box, i) => box.addEventListener("toggle", () => unfolded.set(`step ${rows[rows.length - 1 - i].step}`, box.open)));
  return element("div", {}, ...boxes);
}

function dialogList(dialogs) {
  const turn = ([role, content]) =>
    element("div", { class: "turn" }, element("span", { class: "role" }, role), element("div", { class: "said" }, content));
  return element(
    "div",
    { class: "dialogs" },
    ...dialogs.map((dialog) =>
      element(
        "article",
        { class: dialog.is_right ? "dialog right" : "dialog wrong" },
        element("h4", {}, element("span", { class: "verdict" }, dialog.is_right ? "✓ right" : "✗ wrong"), dialog.title),
        ...dialog.messages.map(turn),
        element("p", { class: "expected" }, dialog.is_right ? "" : `expected: ${dialog.expected}`),
      ),
    ),
  );
}

function listen() {
  const change = (id, event, act) => byId(id).addEventListener(event, () => act(byId(id)));
  const asks = (act) => (node) => { act(node); update(); };
  change("group", "change", asks((node) => { view.group = node.value; order.clear(); hidden.clear(); }));
  change("x", "change", asks((node) => { view.x = node.value; view.low = view.high = null; byId("whole").disabled = true; }));
  change("window", "change", asks((node) => { view.window = Number(node.value); }));
  change("logx", "change", asks((node) => { view.logX = node.checked; }));
  change("logy", "change", (node) => { view.logY = node.checked; redraw(); });
  change("bands", "change", (node) => { view.bands = node.checked; redraw(); });
  change("whole", "click", () => zoom(null, null));
  change("find", "input", showLegend);
  change("filter", "input", showRuns);
  change("all", "click", () => { hidden.clear(); redraw(); showLegend(); });
  change("none", "click", () => {
    for (const { lines } of charts.values()) for (const line of lines) hidden.add(line.name);
    redraw();
    showLegend();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });
}

fillChoices();
listen();
update();
