// The page: posts a question, shows the dialog, and tells of each token how likely it was and what was looked at.
// All texts go through `element`, which makes text of them.

import { ask, byId, element, readable, short, show } from "./parts.js";

const UNLIKELY = 0.5;
const N_LOOKED_AT = 5;
const MILLISECONDS_TO_REST = 60; // on a token, before the model is asked what it looked at
const OWN = ["question", "request", "answer"]; // what is none of these is a tool

let about = null;
let chosen = null; // { dialog, index } of the token that is told of
let known = new Map(); // what was looked at, by question
let timer = null;

async function begin() {
  try {
    about = await ask("api/about");
  } catch (error) {
    return tellStatus(`no answer (${error.message}): is the command still running?`, true);
  }
  byId("about").textContent = readable(about.introduction);
  byId("question").maxLength = about.max_chars;
  byId("examples").replaceChildren(...about.examples.map(exampleButton));
  const layers = about.layers.map(({ mixer }, layer) => element("option", { value: layer }, `${layer} (${mixer})`));
  byId("layer").replaceChildren(...(layers.length ? layers : [element("option", { value: 0 }, "-")]));
  byId("layer").value = Math.max(0, about.layers.findLastIndex(({ n_heads }) => n_heads));
  fillHeads();
}

function exampleButton([label, question]) {
  const button = element("button", { type: "button" }, `${question} `, element("small", {}, `(${label})`));
  button.addEventListener("click", () => {
    byId("question").value = question;
    send();
  });
  return button;
}

function fillHeads() {
  const { n_heads } = about.layers[byId("layer").value] ?? { n_heads: 0 };
  const heads = [...Array(n_heads).keys()].map((head) => element("option", { value: head }, String(head)));
  const mean = element("option", { value: "mean" }, n_heads ? `mean over ${n_heads}` : "none");
  byId("head").replaceChildren(mean, ...heads);
}

function tellStatus(text, isWrong = false) {
  byId("status").textContent = readable(text);
  byId("status").classList.toggle("wrong", isWrong);
}

async function send() {
  const text = byId("question").value.trim();
  if (!text || byId("ask").disabled) return;
  byId("ask").disabled = true;
  tellStatus("the model writes …");
  try {
    const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text }) };
    const reply = await fetch("api/ask", { ...request, cache: "no-store", credentials: "omit", redirect: "error" });
    if (!reply.ok) throw new Error(await reply.text());
    hide();
    byId("dialogs").prepend(...(await reply.json()).map(dialogBox));
    tellStatus("");
  } catch (error) {
    tellStatus(`no answer: ${error.message}`, true);
  }
  byId("ask").disabled = false;
}

function dialogBox(dialog) {
  const { verdict } = dialog;
  const kind = verdict ? (verdict.is_right ? "right" : "wrong") : "";
  const box = element("article", { class: `dialog ${kind}`, tabindex: "0", "aria-label": readable(dialog.question) });
  dialog.box = box;
  dialog.tokens = dialog.parts.flatMap((part) => part.tokens.map((token) => ({ ...token, is_written: part.is_written })));
  dialog.nodes = [];
  for (const part of dialog.parts) box.append(turn(dialog, part));
  if (dialog.note) box.append(element("p", { class: "note" }, dialog.note));
  if (verdict) {
    const mark = element("span", { class: "verdict" }, verdict.is_right ? "✓ right" : "✗ wrong");
    box.append(element("p", { class: "truth" }, mark, `truth: ${verdict.truth} (${verdict.about})`));
  }
  box.addEventListener("keydown", (event) => press(event, dialog));
  box.addEventListener("pointerleave", hide);
  box.addEventListener("blur", hide);
  return box;
}

function turn(dialog, part) {
  const said = element("div", { class: "said" });
  for (const token of part.tokens) {
    const index = dialog.nodes.length;
    const unlikely = part.is_written && token.p !== undefined && !(token.p >= UNLIKELY);
    const kinds = ["token", token.special ? "special" : "", unlikely ? "unlikely" : ""].join(" ");
    const node = element("span", { class: kinds }, token.text.replaceAll("\n", "↵\n"));
    node.addEventListener("pointerenter", () => tell(dialog, index));
    dialog.nodes.push(node);
    said.append(node);
  }
  const kind = `${part.is_written ? "written" : ""} ${OWN.includes(part.who) ? "" : "tool"}`;
  return element("div", { class: `turn ${kind}` }, element("span", { class: "role" }, part.who), said);
}

function press(event, dialog) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (event.key === "Escape") hide();
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const at = chosen && chosen.dialog === dialog ? chosen.index + step : step > 0 ? 0 : dialog.nodes.length - 1;
  tell(dialog, Math.max(0, Math.min(dialog.nodes.length - 1, at)));
}

function hide() {
  clearTimeout(timer);
  if (chosen) unmark(chosen.dialog);
  chosen = null;
  byId("tip").hidden = true;
}

function unmark(dialog) {
  for (const node of dialog.nodes) {
    node.classList.remove("chosen");
    node.style.removeProperty("--looked");
  }
}

function tell(dialog, index) {
  hide();
  chosen = { dialog, index };
  const token = dialog.tokens[index];
  dialog.nodes[index].classList.add("chosen");
  const rows = [element("div", { class: "first" }, name(token.text))];
  rows[0].dataset.p = token.p ?? "";
  if (token.p !== undefined) rows.push(element("div", {}, `${token.is_written ? "probability" : "given; the model expected it with"} ${share(token.p)}`));
  else rows.push(element("div", {}, dialog.number === null ? "not read" : "where a dialog begins: nothing tells what comes"));
  if (token.best) rows.push(element("div", {}, `most likely: ${token.best.map(([text, p]) => `${name(text)} ${share(p)}`).join(", ")}`));
  const looked = element("div", { class: "looked" }, "");
  place([...rows, looked], dialog.nodes[index]);
  if (token.p !== undefined) timer = setTimeout(() => look(dialog, index, looked), MILLISECONDS_TO_REST);
}

async function look(dialog, index, row) {
  const query = { dialog: dialog.number, place: dialog.tokens[index].at, layer: byId("layer").value };
  const key = JSON.stringify(query);
  try {
    if (!known.has(key)) known.set(key, await ask("api/look", query));
  } catch (error) {
    row.textContent = readable(error.message);
    return;
  }
  if (known.size > 500) known = new Map([[key, known.get(key)]]);
  if (!chosen || chosen.dialog !== dialog || chosen.index !== index) return; // it has moved on
  const found = known.get(key);
  if (found.why) row.textContent = readable(found.why);
  else showLooked(dialog, found.heads, row);
  place([...byId("tip").children], dialog.nodes[index]);
}

function showLooked(dialog, heads, row) {
  const head = byId("head").value;
  const ofToken = (at) => (head === "mean" ? heads.reduce((sum, one) => sum + one[at], 0) / heads.length : heads[head][at]);
  const weights = dialog.tokens.map((_, index) => {
    const [from, to] = [index ? dialog.tokens[index - 1].at + 1 : 0, dialog.tokens[index].at];
    let sum = 0;
    for (let at = from; at <= to && at < heads[0].length; at++) sum += ofToken(at);
    return sum;
  });
  const most = Math.max(...weights);
  weights.forEach((weight, index) => dialog.nodes[index].style.setProperty("--looked", most > 0 ? weight / most : 0));
  const order = [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, N_LOOKED_AT);
  const words = order.filter((index) => weights[index] > 0).map((index) => `${name(dialog.tokens[index].text)} ${share(weights[index])}`);
  const what = head === "mean" ? `mean over ${heads.length} heads` : `head ${head}`;
  row.textContent = readable(`looked at (layer ${byId("layer").value}, ${what}): ${words.join(", ")}`);
}

function name(text) {
  return `“${short(text.replaceAll("\n", "↵"), 30)}”`;
}

function share(p) {
  return p === null ? "not a number" : show(p);
}

function place(rows, node) {
  const tip = byId("tip");
  tip.replaceChildren(...rows);
  tip.hidden = false;
  const box = node.getClientRects()[0] ?? node.getBoundingClientRect();
  const left = Math.max(8, Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8));
  const above = box.top - tip.offsetHeight - 6;
  tip.style.left = `${left + window.scrollX}px`;
  tip.style.top = `${(above >= 0 ? above : box.bottom + 6) + window.scrollY}px`;
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("layer").addEventListener("change", fillHeads);
begin();
