// One chart on a canvas: lines with bands, values under the pointer, zoom by dragging, and the same by keys.

import { element, readable, short, show } from "./parts.js";

const MARGIN = { left: 58, right: 12, top: 8, bottom: 30 };
const NEAR_PIXELS = 60;
const N_IN_TIP = 8;
const MIN_DRAG_PIXELS = 6;

export class Chart {
  // `onZoom(low, high)` is called with the ends of the axis that are wanted, with nulls for all of it.
  constructor(title, onZoom) {
    this.title = title;
    this.onZoom = onZoom;
    this.lines = [];
    this.options = { bands: true, logX: false, logY: false, low: null, high: null, xName: "step" };
    this.canvas = element("canvas", { tabindex: "0", role: "img" });
    this.tip = element("div", { class: "tip", hidden: true, role: "status" });
    this.plot = element("div", { class: "plot" }, this.canvas, this.tip);
    this.node = element("figure", {}, element("figcaption", {}, title), this.plot);
    this.hovered = null;
    this.drag = null;
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  // Lines have a name, `look`, `visible`, and arrays x, y and perhaps low and high.
  set(lines, options) {
    this.lines = lines;
    this.options = { ...this.options, ...options };
    if (this.hovered) this.hovered = this.nearestTo(this.hovered.line.name, this.hovered.line.x[this.hovered.index]);
    this.draw();
  }

  shown() {
    return this.lines.filter((line) => line.visible && line.x.length);
  }

  // The values that the axes span: what is drawn, in the part of the horizontal axis that is asked for.
  ranges() {
    const { logX, logY, bands } = this.options;
    // An end at or below 0, which a zoom may have, has no place on a logarithmic axis.
    const [low, high] = [this.options.low, this.options.high].map((end) => (logX && end <= 0 ? null : end));
    const x = [Infinity, -Infinity];
    const y = [Infinity, -Infinity];
    const take = (range, value, isLog) => {
      if (value === null || (isLog && value <= 0)) return;
      if (value < range[0]) range[0] = value;
      if (value > range[1]) range[1] = value;
    };
    for (const line of this.shown()) {
      for (let i = 0; i < line.x.length; i++) {
        take(x, line.x[i], logX);
        if ((low !== null && line.x[i] < low) || (high !== null && line.x[i] > high)) continue;
        take(y, line.y[i], logY);
        if (bands && line.low && line.banded) {
          take(y, line.low[i], logY);
          take(y, line.high[i], logY);
        }
      }
    }
    if (low !== null) x[0] = low;
    if (high !== null) x[1] = high;
    return { x: widened(x, logX, 0), y: widened(y, logY, 0.04) };
  }

  draw() {
    const width = this.plot.clientWidth;
    const height = this.canvas.clientHeight;
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(this.canvas);
    this.ink = style.getPropertyValue("--ink");
    this.soft = style.getPropertyValue("--soft");
    this.rule = style.getPropertyValue("--line");
    pen.font = `12px ${style.fontFamily}`;
    const ranges = this.ranges();
    this.toX = scale(ranges.x, [MARGIN.left, width - MARGIN.right], this.options.logX);
    this.toY = scale(ranges.y, [height - MARGIN.bottom, MARGIN.top], this.options.logY);
    this.drawAxes(pen, ranges, width, height);
    pen.save();
    pen.beginPath();
    pen.rect(MARGIN.left, 0, width - MARGIN.left - MARGIN.right, height - MARGIN.bottom);
    pen.clip();
    for (const line of this.shown()) this.drawLine(pen, line);
    this.drawHover(pen, height);
    pen.restore();
    this.describe(ranges);
  }

  drawAxes(pen, ranges, width, height) {
    pen.lineWidth = 1;
    const bottom = height - MARGIN.bottom;
    pen.strokeStyle = this.rule;
    pen.fillStyle = this.soft;
    pen.textAlign = "center";
    for (const tick of ticks(ranges.x, this.options.logX, Math.max(3, width / 110))) {
      const x = this.toX(tick);
      stroke(pen, x, MARGIN.top, x, bottom);
      pen.fillText(brief(tick), Math.min(x, width - 22), bottom + 14);
    }
    pen.textAlign = "right";
    for (const tick of ticks(ranges.y, this.options.logY, 6)) {
      const y = this.toY(tick);
      stroke(pen, MARGIN.left, y, width - MARGIN.right, y);
      pen.fillText(brief(tick), MARGIN.left - 6, y + 4);
    }
    pen.strokeStyle = this.soft;
    stroke(pen, MARGIN.left, bottom, width - MARGIN.right, bottom);
    pen.textAlign = "right";
    pen.fillText(this.options.xName, width - MARGIN.right, bottom + 27);
  }

  drawLine(pen, line) {
    const isHovered = this.hovered && this.hovered.line === line;
    const { colour, dash, width } = line.look;
    if (this.options.bands && line.low && (isHovered || (line.banded && !this.hovered))) {
      pen.globalAlpha = 0.18;
      pen.fillStyle = colour;
      pen.beginPath();
      const inside = [...line.x.keys()].filter((i) => line.low[i] !== null && line.high[i] !== null);
      for (const i of inside) pen.lineTo(this.toX(line.x[i]), this.toY(line.high[i]));
      for (const i of inside.reverse()) pen.lineTo(this.toX(line.x[i]), this.toY(line.low[i]));
      pen.fill();
    }
    pen.globalAlpha = this.hovered && !isHovered ? 0.25 : 1;
    pen.strokeStyle = colour;
    pen.lineWidth = isHovered ? width + 1.2 : width;
    pen.setLineDash(dash);
    pen.beginPath();
    for (let i = 0; i < line.x.length; i++) {
      if (this.options.logY && line.y[i] <= 0) continue;
      pen.lineTo(this.toX(line.x[i]), this.toY(line.y[i]));
    }
    pen.stroke();
    pen.setLineDash([]);
    if (line.x.length <= 30) {
      pen.fillStyle = colour;
      for (let i = 0; i < line.x.length; i++) dot(pen, this.toX(line.x[i]), this.toY(line.y[i]), 2.5);
    }
    pen.globalAlpha = 1;
  }

  drawHover(pen, height) {
    if (this.drag && this.drag.now !== undefined) {
      pen.globalAlpha = 0.15;
      pen.fillStyle = this.ink;
      pen.fillRect(this.drag.from, MARGIN.top, this.drag.now - this.drag.from, height - MARGIN.bottom - MARGIN.top);
      pen.globalAlpha = 1;
    }
    if (!this.hovered) return;
    const { line, index } = this.hovered;
    const x = this.toX(line.x[index]);
    pen.strokeStyle = this.soft;
    stroke(pen, x, MARGIN.top, x, height - MARGIN.bottom);
    pen.fillStyle = line.look.colour;
    dot(pen, x, this.toY(line.y[index]), 5);
  }

  // For those who do not see it, and for tests: what is drawn.
  describe(ranges) {
    const lines = this.shown();
    const words = lines.slice(0, 12).map((line) => `${line.name} ends at ${show(line.y[line.y.length - 1])}`);
    const more = lines.length > 12 ? `; and ${lines.length - 12} more` : "";
    this.canvas.setAttribute("aria-label", readable(`${this.title} by ${this.options.xName}: ${words.join("; ")}${more}.`));
    this.canvas.dataset.low = ranges.x[0];
    this.canvas.dataset.high = ranges.x[1];
    this.canvas.dataset.lines = lines.length;
    this.canvas.dataset.points = lines.reduce((sum, line) => sum + line.x.length, 0);
    this.canvas.dataset.end = Math.max(...lines.map((line) => line.x[line.x.length - 1]));
  }

  // The point of a line that is nearest to a place on the horizontal axis.
  nearestTo(name, place) {
    const line = this.shown().find((one) => one.name === name);
    return line ? { line, index: nearest(line.x, place) } : null;
  }

  hover(px, py) {
    let best = null;
    for (const line of this.shown()) {
      const index = nearest(line.x, this.toX.back(px));
      const distance = Math.hypot(this.toX(line.x[index]) - px, this.toY(line.y[index]) - py);
      if (!best || distance < best.distance) best = { line, index, distance };
    }
    this.hovered = best && best.distance <= NEAR_PIXELS * 3 ? best : null;
    this.tell();
  }

  tell() {
    this.draw();
    this.tip.hidden = !this.hovered;
    if (!this.hovered) return;
    const { line, index } = this.hovered;
    const [x, y] = [this.toX(line.x[index]), this.toY(line.y[index])];
    const others = [];
    for (const other of this.shown()) {
      if (other === line) continue;
      const at = nearest(other.x, line.x[index]);
      const away = Math.abs(this.toX(other.x[at]) - x);
      if (away <= NEAR_PIXELS) others.push({ line: other, index: at, away: Math.abs(this.toY(other.y[at]) - y) });
    }
    others.sort((a, b) => a.away - b.away);
    const head = element("div", {}, `${this.options.xName} ${show(line.x[index])}`);
    head.dataset.value = line.x[index];
    const rest = others.slice(0, N_IN_TIP - 1).map((other) => tipRow(other.line, other.index));
    this.tip.replaceChildren(head, tipRow(line, index, "first"), ...rest);
    const width = this.plot.clientWidth;
    this.tip.style.left = `${Math.max(0, Math.min(x + 12, width - this.tip.offsetWidth))}px`;
    const above = y - this.tip.offsetHeight - 14;
    this.tip.style.top = `${above >= 0 ? above : y + 14}px`;
  }

  leave() {
    this.hovered = null;
    this.tell();
  }

  listen() {
    const place = (event) => event.clientX - this.canvas.getBoundingClientRect().left;
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.toX) return;
      if (this.drag) this.drag.now = place(event);
      this.hover(place(event), event.clientY - this.canvas.getBoundingClientRect().top);
    });
    this.canvas.addEventListener("pointerleave", () => this.leave());
    this.canvas.addEventListener("blur", () => this.leave());
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button === 0 && event.pointerType !== "touch") this.drag = { from: place(event) };
    });
    window.addEventListener("pointerup", (event) => {
      const drag = this.drag;
      this.drag = null;
      if (!drag || Math.abs(place(event) - drag.from) < MIN_DRAG_PIXELS) return;
      const ends = [this.toX.back(drag.from), this.toX.back(place(event))].sort((a, b) => a - b);
      this.onZoom(...ends);
    });
    this.canvas.addEventListener("dblclick", () => this.onZoom(null, null));
    this.canvas.addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    const lines = this.shown();
    if (!lines.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.hovered || { line: lines[0], index: lines[0].x.length - 1 };
    const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const across = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (along) {
      const index = this.hovered ? at.index + along : at.index;
      this.hovered = { line: at.line, index: Math.max(0, Math.min(at.line.x.length - 1, index)) };
    } else if (across) {
      const line = lines[(lines.indexOf(at.line) + across + lines.length) % lines.length];
      this.hovered = { line, index: nearest(line.x, at.line.x[at.index]) };
    } else if (event.key === "+" || event.key === "-") {
      this.zoomAround(at.line.x[at.index], event.key === "+" ? 0.5 : 2);
    } else if (event.key === "0") {
      this.onZoom(null, null);
    } else if (event.key === "Escape") {
      this.hovered = null;
    } else return;
    event.preventDefault();
    this.tell();
  }

  zoomAround(place, factor) {
    const centre = this.toX(place);
    const ends = [MARGIN.left, this.plot.clientWidth - MARGIN.right].map((end) =>
      this.toX.back(centre + (end - centre) * factor),
    );
    this.onZoom(...ends);
  }
}

function tipRow(line, index, kind = "") {
  const ends = line.low && line.low[index] !== null ? ` [${show(line.low[index])}, ${show(line.high[index])}]` : "";
  const seeds = line.n > 1 ? `, ${line.n} seeds` : "";
  const mark = element("span", {}, "■ ");
  mark.style.color = line.look.colour;
  const row = element("div", { class: kind }, mark, `${short(line.name, 90)}: ${show(line.y[index])}${ends}${seeds}`);
  row.dataset.value = line.y[index];
  return row;
}

function scale([from, to], [start, end], isLog) {
  const turn = isLog ? Math.log : (value) => value;
  const [a, b] = [turn(from), turn(to)];
  const place = (value) => start + ((turn(value) - a) / (b - a)) * (end - start);
  place.back = (pixel) => {
    const value = a + ((pixel - start) / (end - start)) * (b - a);
    return isLog ? Math.exp(value) : value;
  };
  return place;
}

function widened([low, high], isLog, share) {
  if (!(low <= high)) return isLog ? [0.1, 1] : [0, 1];
  if (isLog) return low === high ? [low / 2, high * 2] : [low / (high / low) ** share, high * (high / low) ** share];
  const room = low === high ? Math.abs(low) * 0.1 || 1 : (high - low) * share;
  return [low - room, high + room];
}

function ticks([low, high], isLog, most) {
  const found = [];
  if (isLog && high / low > 4) {
    const steps = high / low > 1000 ? [1] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const step of steps) found.push(step * 10 ** power);
    }
    const inside = found.filter((tick) => tick >= low && tick <= high);
    const every = Math.ceil(inside.length / (most * 2));
    return inside.filter((_, i) => i % every === 0);
  }
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((one) => one >= rough);
  for (let i = Math.ceil(low / step); i * step <= high && found.length < 100; i++) found.push(i * step);
  return found;
}

function brief(value) {
  const size = Math.abs(value);
  if (size >= 1e4 || (size !== 0 && size < 1e-3)) {
    const [digits, power] = value.toExponential(2).split("e");
    return size >= 1e4 && size < 1e6 ? `${Number((value / 1000).toPrecision(4))}k` : `${Number(digits)}e${Number(power)}`;
  }
  return String(Number(value.toPrecision(4)));
}

function nearest(values, place) {
  let [low, high] = [0, values.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] < place) low = middle;
    else high = middle;
  }
  return place - values[low] <= values[high] - place ? low : high;
}

function stroke(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

function dot(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}
