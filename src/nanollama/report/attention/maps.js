// Drawings: maps on canvases, patterns and curves as SVG.

import { element, readable } from "./elements.js";

const SPACE = "http://www.w3.org/2000/svg";
const MOST_LABELLED = 44; // tokens of a map whose labels are drawn
const LABEL_PIXELS = 44;

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function colours(node) {
  const style = getComputedStyle(node);
  return Object.fromEntries(["ink", "soft", "line", "link", "panel"].map((name) => [name, style.getPropertyValue(`--${name}`)]));
}

// Is it the pointer that has moved, and not what lies under it, as when the page scrolls?
let pointerAt = "";
window.addEventListener("pointermove", (event) => {
  pointerAt = `${event.screenX} ${event.screenY}`; // behind the listeners of what is pointed at
});
export function hasMoved(event) {
  return !event.type.startsWith("pointer") || `${event.screenX} ${event.screenY}` !== pointerAt;
}

// A canvas of so many CSS pixels, sharp on any screen; its pen.
function prepared(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

// A map as squares, `weight(query, key)` dark where it is large.
function drawCells(pen, n, cell, left, top, weight, colour, causal) {
  pen.fillStyle = colour;
  const size = Math.max(cell >= 8 ? cell - 0.6 : cell, 1);
  for (let query = 0; query < n; query++) {
    for (let key = 0; key < (causal ? query + 1 : n); key++) {
      pen.globalAlpha = weight(query, key);
      pen.fillRect(left + key * cell, top + query * cell, size, size);
    }
  }
  pen.globalAlpha = 1;
}

// A small map; where cells are smaller than pixels, they overlap and are darkened, so that none is lost.
export function thumbnail(canvas, pixels, n, weight, causal) {
  canvas.style.width = canvas.style.height = `${pixels}px`;
  const pen = prepared(canvas, pixels, pixels);
  const cell = pixels / n;
  const seen = cell < 2 ? (query, key) => Math.sqrt(weight(query, key)) : weight;
  drawCells(pen, n, cell, 0, 0, seen, colours(canvas).link, causal);
}

// The large map: labels where there is room, the row that looks and the token that is looked at framed.
export class MapPicture {
  // `onPoint(query, key)` is called with what is pointed at.
  constructor(canvas, onPoint) {
    this.canvas = canvas;
    this.place = null;
    const point = (event) => {
      if (!hasMoved(event)) return;
      const box = canvas.getBoundingClientRect();
      const { left, top, cell, n, causal } = this.place;
      const query = Math.floor((event.clientY - box.top - top) / cell);
      const key = Math.floor((event.clientX - box.left - left) / cell);
      if (query >= 0 && key >= 0 && query < n && key < (causal ? query + 1 : n)) onPoint(query, key);
    };
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("click", point);
  }

  draw(labels, weight, causal, query, key) {
    const n = labels.length;
    const isLabelled = n <= MOST_LABELLED;
    const width = Math.min(this.canvas.parentElement.clientWidth, 544);
    const left = isLabelled ? LABEL_PIXELS : 2;
    const cell = Math.min((width - left - 2) / n, 30);
    const top = isLabelled ? LABEL_PIXELS : 2;
    const height = top + n * cell + 2;
    this.canvas.style.height = `${height}px`;
    this.canvas.style.width = `${width}px`;
    this.place = { left, top, cell, n, causal };
    const pen = prepared(this.canvas, width, height);
    const { ink, soft, line, link, panel } = colours(this.canvas);
    pen.fillStyle = panel;
    pen.fillRect(left, top, n * cell, n * cell);
    drawCells(pen, n, cell, left, top, weight, link, causal);
    pen.strokeStyle = line;
    pen.strokeRect(left, top, n * cell, n * cell);
    pen.font = `${Math.max(8, Math.min(12, cell * 0.72))}px ui-monospace, Menlo, Consolas, monospace`;
    for (let i = 0; isLabelled && i < n; i++) {
      const text = readable(labels[i]).slice(0, 6);
      pen.textBaseline = "middle";
      pen.textAlign = "right";
      pen.fillStyle = i === query ? ink : soft;
      pen.fillText(text, left - 5, top + (i + 0.5) * cell);
      pen.save();
      pen.translate(left + (i + 0.5) * cell, top - 5);
      if (text.length > 2) pen.rotate(-Math.PI / 2);
      pen.textAlign = text.length > 2 ? "left" : "center";
      if (text.length <= 2) pen.textBaseline = "bottom";
      pen.fillStyle = i === key ? ink : soft;
      pen.fillText(text, 0, 0);
      pen.restore();
    }
    pen.strokeStyle = ink;
    pen.lineWidth = 1.4;
    pen.strokeRect(left, top + query * cell, (causal ? query + 1 : n) * cell, cell);
    pen.lineWidth = 2.4;
    pen.strokeRect(left + key * cell, top + query * cell, cell, cell);
  }
}

// What a pattern looks like on a few tokens.
export function patternPicture({ name, labels, cells }) {
  const [cell, margin] = [13, 22];
  const size = margin + labels.length * cell + 1;
  const picture = svg("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": `A map of the pattern ${name}` });
  for (const [query, key] of cells) {
    picture.append(svg("rect", { class: "cell", x: margin + key * cell, y: margin + query * cell, width: cell, height: cell }));
  }
  labels.forEach((label, i) => {
    for (let j = 0; j <= i; j++) {
      picture.append(svg("rect", { class: "grid", x: margin + j * cell, y: margin + i * cell, width: cell, height: cell }));
    }
    const middle = margin + (i + 0.5) * cell;
    picture.append(svg("text", { class: "name", x: margin - 3, y: middle + 3, "text-anchor": "end" }, label));
    picture.append(svg("text", { class: "name", x: middle, y: margin - 5, "text-anchor": "middle" }, label));
  });
  return picture;
}

// A score between 0 and 1 over training, the chosen checkpoint dotted.
export function curvePicture(values, chosen, told) {
  const [width, height, pad] = [140, 34, 4];
  const x = (i) => pad + (values.length > 1 ? (i / (values.length - 1)) * (width - 2 * pad) : (width - 2 * pad) / 2);
  const y = (value) => height - pad - value * (height - 2 * pad);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told });
  picture.append(svg("rect", { class: "grid", x: 0.5, y: 0.5, width: width - 1, height: height - 1 }));
  picture.append(svg("polyline", { class: "line", points: values.map((value, i) => `${x(i)},${y(value)}`).join(" ") }));
  picture.append(svg("circle", { class: "dot", cx: x(chosen), cy: y(values[chosen]), r: 3.5 }));
  return picture;
}

// Text on a colour as strong as the number.
export function shade(node, weight) {
  node.style.setProperty("--w", weight.toFixed(3));
  node.classList.toggle("strong", weight > 0.75);
  node.classList.toggle("middling", weight > 0.6);
  return node;
}

export function paragraphs(target, ...parts) {
  target.replaceChildren(...parts.map((part) => (part instanceof Node ? part : readable(part))));
}

export function bold(text) {
  return element("b", {}, text);
}
