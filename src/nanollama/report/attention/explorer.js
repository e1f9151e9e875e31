// The explorer: reads the numbers of the page, and shows those that are chosen. All texts become text, never HTML.

import { byId, element, readable, short } from "./elements.js";
import { MapPicture, bold, curvePicture, hasMoved, paragraphs, patternPicture, shade, thumbnail } from "./maps.js";

const data = JSON.parse(byId("data").textContent);
const LEVELS = 255;
const CHANGED_BYTES = 4; // of an answer of a changed model: a token, its probability, that of the right one
const N_TOLD = 4; // looked-at tokens that are told in words
const LARGE = 88; // pixels of a small map, where there are few
const SMALL = 44;
const MANY_HEADS = 12;

const chosen = { sequence: 0, step: data.checkpoints.length - 1, view: 0, change: "none", query: 0, key: null }; // no key: the strongest
const bytes = new Map(); // of base64 that was read
let mapPicture = null;

function read(text) {
  if (!bytes.has(text)) bytes.set(text, Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
  return bytes.get(text);
}

function label(number) {
  const text = data.labels[number];
  return text === "" ? "∅" : text.replaceAll(" ", "␣").replaceAll("\n", "⏎");
}

function sequence() {
  return data.sequences[chosen.sequence];
}

// The number of a map as a function of (query, key).
function weights(view, step = chosen.step) {
  const n = sequence().tokens.length;
  const found = read(data.checkpoints[step].maps[chosen.sequence]);
  const start = view * (data.causal ? (n * (n + 1)) / 2 : n * n);
  const row = data.causal ? (query) => (query * (query + 1)) / 2 : (query) => query * n;
  return (query, key) => (data.causal && key > query ? 0 : found[start + row(query) + key] / LEVELS);
}

// What is answered at the asked positions: as it is (0), or with a change (its number and one more).
function answers(number, which = chosen.sequence, step = chosen.step) {
  const found = read(data.checkpoints[step].answers[number][which]);
  const n = data.sequences[which].asked.length;
  const size = number ? CHANGED_BYTES : found.length / n;
  return data.sequences[which].asked.map((place, i) => {
    const of = found.subarray(i * size, (i + 1) * size);
    const told = [];
    for (let at = 0; at + 3 < size; at += 3) told.push({ token: of[at] + 256 * of[at + 1], share: of[at + 2] / LEVELS });
    const right = data.sequences[which].right[i];
    return { place, told, right, isRight: told[0].token === right, ofRight: of[size - 1] / LEVELS };
  });
}

function rightAnswers(number) {
  const all = data.sequences.flatMap((_, which) => answers(number, which));
  return { n: all.filter((answer) => answer.isRight).length, of: all.length };
}

function viewName(view) {
  const [kind, layer, head] = data.views[view];
  if (layer === null) return "whole model";
  return head === null ? `layer ${layer}, ${kind}` : `layer ${layer} head ${head}`;
}

// The number of the chosen change of the chosen head, from 0; -1 when nothing is changed.
function changeNumber(view = chosen.view, change = chosen.change) {
  return data.changes.findIndex(([of, pattern]) => of === view && String(pattern ?? "off") === change);
}

function changeName(pattern) {
  return pattern === null ? "off" : `ideal: ${data.patterns[pattern].name}`;
}

function share(value) {
  return value.toFixed(2);
}

function showAll() {
  fillHeads();
  showChanges();
  showTokens();
  showThumbnails();
  showPatterns();
  showScores();
  const { step } = data.checkpoints[chosen.step];
  byId("step").value = chosen.step;
  const told = `step ${step.toLocaleString("en")}`;
  byId("step-told").textContent = told;
  byId("step").setAttribute("aria-valuetext", told);
}

function fillSelect(select, options, value) {
  const wanted = options.map(([id, text]) => `${id} ${text}`).join("\n");
  if (select.dataset.options !== wanted) {
    select.dataset.options = wanted;
    select.replaceChildren(...options.map(([id, text]) => element("option", { value: id }, text)));
  }
  select.value = String(value);
}

function fillHeads() {
  const [, layer, head] = data.views[chosen.view];
  const layers = new Map(data.views.map(([kind, of]) => [String(of), of === null ? "whole model" : `${of}, ${kind}`]));
  fillSelect(byId("layer"), [...layers], layer);
  const heads = data.views.filter(([, of]) => of === layer).map(([, , of]) => [String(of), of === null ? "–" : of]);
  fillSelect(byId("head"), heads, head);
  byId("head").disabled = head === null;
}

function meaning() {
  const [, layer, head] = data.views[chosen.view];
  const which = viewName(chosen.view);
  if (head !== null) {
    return `Attention of ${which}: of what the framed token fetches here, how much comes from each token. The weights of a token add up to 1.`;
  }
  if (layer !== null) {
    return `Influence in ${which}, which has no attention: how much of what the layer writes at the framed token changes when what it reads at another is replaced by its mean over the sequence, |y′ − y| / (|y′| + |y|). 0: nothing, 1: all of it.`;
  }
  return "Influence in the whole model: how far its probabilities at the framed token move when the embedding of another token is replaced by the mean of the sequence's embeddings (total variation distance). 0: not at all, 1: all of them.";
}

function showTokens() {
  const { tokens } = sequence();
  chosen.query = Math.min(chosen.query, tokens.length - 1);
  const number = changeNumber();
  const asIs = new Map(answers(0).map((answer) => [answer.place, answer]));
  const then = new Map(number < 0 ? [] : answers(number + 1).map((answer) => [answer.place, answer]));
  const cells = tokens.map((token, place) => {
    const parts = [element("span", { class: "label" }, short(label(token), 14)), element("span", { class: "weight" })];
    for (const [kind, found] of [["", asIs.get(place)], [" changed", then.get(place)]]) {
      if (found) parts.push(said(found, kind));
    }
    const cell = element("button", { type: "button", class: "token", tabindex: "-1" }, ...parts);
    cell.dataset.place = place;
    return cell;
  });
  byId("tokens").replaceChildren(...cells);
  paragraphs(byId("meaning"), meaning());
  const marks = data.marks.flatMap(([mark, words], i) => [i ? "; " : "", bold(mark), ` ${words}`]);
  paragraphs(byId("marks"), ...(marks.length ? [...marks, "."] : []));
  const { n, of } = rightAnswers(0);
  const changed = number < 0 ? null : rightAnswers(number + 1);
  const more = changed ? [`; with ${viewName(chosen.view)} ${changeName(data.changes[number][1])}: `, bold(`${changed.n}`)] : [];
  paragraphs(byId("right"), "Right answers to all sequences of this page: ", bold(`${n} of ${of}`), ...more, ".");
  byId("right").dataset.n = n;
  byId("right").dataset.changed = changed ? changed.n : "";
  showLook();
}

function said(answer, kind) {
  const node = element("span", { class: `said ${answer.isRight ? "right" : "wrong"}${kind}` }, short(label(answer.told[0].token), 10));
  node.dataset.share = answer.told[0].share;
  return node;
}

// What depends on the token that looks.
function showLook() {
  const { tokens } = sequence();
  const { query } = chosen;
  const weight = weights(chosen.view);
  for (const cell of byId("tokens").children) {
    const place = Number(cell.dataset.place);
    const isSeen = !data.causal || place <= query;
    const value = weight(query, place);
    shade(cell.firstChild, value);
    cell.children[1].textContent = isSeen ? share(value) : "";
    cell.classList.toggle("unseen", !isSeen);
    cell.classList.toggle("key", isSeen && value >= 0.1);
    cell.classList.toggle("little", value < 0.01);
    cell.setAttribute("aria-current", String(place === query));
    cell.tabIndex = place === query ? 0 : -1;
    cell.setAttribute("aria-label", readable(isSeen ? `${label(tokens[place])}, ${share(value)}` : label(tokens[place])));
  }
  tellLook(weight);
  mapPicture.draw(tokens.map(label), weight, data.causal, query, chosenKey(weight));
  byId("map").setAttribute("aria-label", readable(`${viewName(chosen.view)}: ${byId("told").textContent}`));
}

// What the chosen token sees, the strongest first.
function strongest(weight) {
  const { query } = chosen;
  const keys = [...sequence().tokens.keys()].filter((place) => !data.causal || place <= query);
  return keys.sort((a, b) => weight(query, b) - weight(query, a));
}

function chosenKey(weight) {
  const keys = strongest(weight);
  return keys.includes(chosen.key) ? chosen.key : keys[0];
}

function tellLook(weight) {
  const { tokens } = sequence();
  const { query } = chosen;
  const keys = strongest(weight);
  const key = chosenKey(weight);
  const isHead = data.views[chosen.view][2] !== null;
  const parts = [bold(label(tokens[query])), ` at ${query}`, isHead ? " looks at " : " is moved by "];
  keys.slice(0, N_TOLD).forEach((place, i) => parts.push(i ? ", " : "", bold(label(tokens[place])), ` at ${place}: ${share(weight(query, place))}`));
  if (!keys.slice(0, N_TOLD).includes(key)) parts.push("; ", bold(label(tokens[key])), ` at ${key}: ${share(weight(query, key))}`);
  parts.push(". ");
  const asIs = answers(0).find((answer) => answer.place === query);
  if (asIs) parts.push(...tellAnswer(asIs, data.inPlace ? "Here it says " : "Next it says "));
  const number = changeNumber();
  const then = number < 0 ? null : answers(number + 1).find((answer) => answer.place === query);
  if (then) parts.push(...tellAnswer(then, `With ${viewName(chosen.view)} ${changeName(data.changes[number][1])}: `));
  paragraphs(byId("told"), ...parts);
}

function tellAnswer({ told, right, isRight, ofRight }, opening) {
  const parts = [opening];
  told.forEach(({ token, share: of }, i) => parts.push(i ? ", " : "", bold(label(token)), ` ${share(of)}`));
  return [...parts, isRight ? "; right. " : "; right is ", ...(isRight ? [] : [bold(label(right)), ` ${share(ofRight)}. `])];
}

function showChanges() {
  const of = data.changes.filter(([view]) => view === chosen.view).map(([, pattern]) => [String(pattern ?? "off"), pattern]);
  if (!of.some(([id]) => id === chosen.change)) chosen.change = "none";
  const options = [["none", "as it is"], ...of.map(([id, pattern]) => [id, changeName(pattern)])];
  const box = byId("changes");
  const wanted = `${chosen.view} ${options.join()}`;
  if (box.dataset.options !== wanted) {
    box.dataset.options = wanted;
    box.replaceChildren(
      ...options.map(([id, text]) => element("label", {}, element("input", { type: "radio", name: "change", value: id }), text === "off" ? `${viewName(chosen.view)} off` : text)),
    );
  }
  for (const input of box.querySelectorAll("input")) input.checked = input.value === chosen.change;
}

function showThumbnails() {
  const box = byId("heads");
  if (!box.childElementCount) {
    const rows = new Map();
    data.views.forEach(([kind, layer, head], view) => {
      if (!rows.has(layer)) rows.set(layer, element("div", { class: "row" }, element("span", {}, layer === null ? "influence in the whole model" : `layer ${layer}: ${kind}${head === null ? ", influence" : ""}`)));
      const button = element("button", { type: "button", title: viewName(view), "aria-label": viewName(view) }, element("canvas", { "aria-hidden": "true" }));
      button.dataset.view = view;
      button.addEventListener("click", () => choose({ view }));
      rows.get(layer).append(button);
    });
    box.replaceChildren(...rows.values());
  }
  const pixels = data.views.length > MANY_HEADS ? SMALL : LARGE;
  for (const button of box.querySelectorAll("button")) {
    const view = Number(button.dataset.view);
    button.setAttribute("aria-pressed", String(view === chosen.view));
    thumbnail(button.firstChild, pixels, sequence().tokens.length, weights(view), data.causal);
  }
}

function showPatterns() {
  const isHead = data.views[chosen.view][2] !== null;
  byId("patterns").replaceChildren(
    ...data.patterns.map((pattern, i) => {
      const scores = data.checkpoints.map((one) => one.scores[chosen.view][i]);
      const told = scores[chosen.step] === null ? "does not occur" : share(scores[chosen.step]);
      const parts = [element("h3", {}, pattern.name), patternPicture(pattern), element("p", {}, pattern.words)];
      if (isHead) {
        const words = `${viewName(chosen.view)}: ${told}`;
        const curve = scores[chosen.step] === null ? [] : [curvePicture(scores, chosen.step, `Score over training, now ${told}`)];
        parts.push(element("div", { class: "curve" }, ...curve, element("span", {}, element("b", {}, words))));
      }
      return element("article", { class: "pattern" }, ...parts);
    }),
  );
}

function showScores() {
  const parts = [...data.views.keys()].filter((view) => data.views[view][1] !== null);
  const isTold = data.changes.some(([, pattern]) => pattern === null);
  const columns = ["head", ...data.patterns.map((pattern) => pattern.name), ...(isTold ? ["right answers when off"] : [])];
  const rows = parts.map((view) => {
    const pick = element("button", { type: "button" }, viewName(view));
    const cells = data.checkpoints[chosen.step].scores[view].map((score) => (score === null ? "–" : shade(element("span", {}, share(score)), score)));
    const off = changeNumber(view, "off");
    if (isTold) cells.push(off < 0 ? "–" : `${rightAnswers(off + 1).n} of ${rightAnswers(0).of}`);
    const row = element("tr", { "aria-current": String(view === chosen.view) }, element("th", { scope: "row" }, pick), ...cells.map((cell) => element("td", {}, cell)));
    row.addEventListener("click", () => choose({ view }));
    return row;
  });
  const head = element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)));
  const caption = element("caption", {}, element("span", {}, `Scores of all heads at step ${data.checkpoints[chosen.step].step.toLocaleString("en")}.`));
  const focused = document.activeElement?.closest("#scores tr")?.rowIndex;
  byId("scores").replaceChildren(caption, element("thead", {}, head), element("tbody", {}, ...rows));
  if (focused) byId("scores").rows[focused].querySelector("button").focus();
}

function choose(what) {
  Object.assign(chosen, what);
  showAll();
}

function point(query, key = null) {
  if (query === chosen.query && key === chosen.key) return;
  Object.assign(chosen, { query, key });
  showLook();
}

// Moves by an arrow key: along the sequence, or in the map.
function press(event, isMap) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const last = sequence().tokens.length - 1;
  const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0;
  const across = { ArrowUp: -1, ArrowDown: 1 }[event.key] ?? 0;
  if (!along && !across) return;
  event.preventDefault();
  const inside = (value) => Math.max(0, Math.min(last, value));
  if (isMap) return point(inside(chosen.query + across), along ? inside(chosenKey(weights(chosen.view)) + along) : null);
  point(inside(chosen.query + along + across));
  byId("tokens").children[chosen.query].focus();
}

function listen() {
  const pick = (id, act) => byId(id).addEventListener("input", () => choose(act(byId(id).value)));
  pick("sequence", (value) => ({ sequence: Number(value), query: lastAsked(Number(value)), key: null }));
  pick("step", (value) => ({ step: Number(value) }));
  pick("layer", (value) => ({ view: data.views.findIndex(([, layer]) => String(layer) === value) }));
  pick("head", (value) => ({ view: data.views.findIndex(([, layer, head]) => layer === data.views[chosen.view][1] && String(head) === value) }));
  byId("changes").addEventListener("input", (event) => choose({ change: event.target.value }));
  const tokens = byId("tokens");
  for (const kind of ["pointerover", "focusin", "click"]) {
    tokens.addEventListener(kind, (event) => {
      const cell = event.target.closest(".token");
      if (cell && hasMoved(event)) point(Number(cell.dataset.place));
    });
  }
  tokens.addEventListener("keydown", (event) => press(event, false));
  byId("map").addEventListener("keydown", (event) => press(event, true));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showAll);
  window.addEventListener("resize", showLook);
}

// Where a sequence is asked last but for its end: there the most has been read.
function lastAsked(which) {
  const { asked } = data.sequences[which];
  return asked[Math.max(0, asked.length - 2)] ?? 0;
}

function begin() {
  byId("where").textContent = readable(data.where);
  byId("step").max = data.checkpoints.length - 1;
  byId("step").disabled = data.checkpoints.length === 1;
  fillSelect(byId("sequence"), data.sequences.map(({ title }, i) => [i, short(title, 60)]), 0);
  chosen.query = lastAsked(0);
  const heads = [...data.views.keys()].filter((view) => data.views[view][2] !== null);
  const best = (view) => Math.max(...data.checkpoints[chosen.step].scores[view].map((score) => score ?? 0));
  if (heads.length) chosen.view = heads.reduce((a, b) => (best(b) > best(a) ? b : a));
  mapPicture = new MapPicture(byId("map"), point);
  listen();
  showAll();
}

begin();
