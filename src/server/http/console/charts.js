// Two charts drawn as SVG: a curve over time and a histogram.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 46;
const BOTTOM = 20;
const TOP = 8;

function draw(parent, name, attributes = {}, text = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  parent.append(element);
  return element;
}

/** A round figure at or above `value`, whose half is one, too. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return power * [1, 2, 3, 4, 6, 8, 10].find((step) => step * power >= value);
}

class Chart {
  constructor(figure, label) {
    this.plot = figure.querySelector(".plot");
    this.svg = draw(this.plot, "svg", { role: "img", "aria-label": label });
    this.label = label;
    this.hint = document.createElement("div");
    this.hint.className = "hint";
    this.hint.hidden = true;
    this.plot.append(this.hint);
    new ResizeObserver(() => this.redraw()).observe(this.plot);
    this.plot.addEventListener("pointermove", (event) => this.point(event.clientX - this.plot.getBoundingClientRect().left));
    this.plot.addEventListener("pointerleave", () => this.point(null));
  }

  frame(top, label) {
    this.width = this.plot.clientWidth;
    this.height = this.plot.clientHeight;
    this.svg.replaceChildren();
    for (const share of [0, 0.5, 1]) {
      const y = this.y(share);
      draw(this.svg, "line", { class: "grid", x1: LEFT, x2: this.width, y1: y, y2: y });
      draw(this.svg, "text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, label(share * top));
    }
  }

  y(share) {
    return TOP + (1 - share) * (this.height - TOP - BOTTOM);
  }

  foot(x, anchor, text) {
    draw(this.svg, "text", { x, y: this.height - 4, "text-anchor": anchor }, text);
  }

  say(x, text) {
    this.hint.hidden = text === null;
    if (text === null) return;
    this.hint.textContent = text;
    const width = this.hint.offsetWidth;
    this.hint.style.left = `${Math.min(Math.max(LEFT, x - width / 2), this.width - width)}px`;
  }
}

/** The last `length` seconds of a figure. */
export class Curve extends Chart {
  constructor(figure, label, length, written) {
    super(figure, label);
    this.length = length;
    this.written = written;
    this.values = [];
    this.pointed = null;
  }

  /** `null` where nothing was heard. */
  add(value) {
    this.values.push(value);
    if (this.values.length > this.length) this.values.shift();
    this.redraw();
  }

  x(index) {
    const step = (this.width - LEFT) / (this.length - 1);
    return this.width - (this.values.length - 1 - index) * step;
  }

  redraw() {
    const top = roundUp(Math.max(...this.values.map((value) => value ?? 0), 10));
    this.frame(top, this.written);
    let run = [];
    this.values.forEach((value, index) => {
      if (value !== null) run.push([this.x(index), this.y(value / top)]);
      if ((value === null || index === this.values.length - 1) && run.length) {
        this.stretch(run);
        run = [];
      }
    });
    this.foot(LEFT, "start", `${Math.round(this.length / 60)} min ago`);
    this.foot(this.width, "end", "now");
    this.point(this.pointed);
  }

  stretch(run) {
    const line = run.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" L");
    const floor = this.y(0);
    draw(this.svg, "path", { class: "area", d: `M${run[0][0]},${floor} L${line} L${run.at(-1)[0]},${floor} Z` });
    draw(this.svg, "path", { class: "curve", d: `M${line}` });
  }

  point(x) {
    this.pointed = x;
    this.svg.querySelector(".cross")?.remove();
    if (x === null || !this.values.length) return this.say(0, null);
    const ago = Math.round((this.width - x) / ((this.width - LEFT) / (this.length - 1)));
    const value = this.values[this.values.length - 1 - ago];
    if (value === undefined || value === null || x < LEFT) return this.say(0, null);
    draw(this.svg, "line", { class: "cross", x1: x, x2: x, y1: TOP, y2: this.y(0) });
    this.say(x, `${this.written(value)}/s, ${ago} s ago`);
  }
}

/** How many requests took how long: columns of [upper bound in seconds, count]. */
export class Histogram extends Chart {
  constructor(figure, label, written, unit) {
    super(figure, label);
    this.written = written;
    this.unit = unit;
    this.columns = [];
  }

  show(columns) {
    this.columns = columns;
    this.redraw();
  }

  redraw() {
    const top = roundUp(Math.max(...this.columns.map(([, count]) => count), 10));
    this.frame(top, this.written);
    const width = (this.width - LEFT) / Math.max(this.columns.length, 1);
    this.columns.forEach(([, count], index) => {
      if (!count) return;
      const y = Math.min(this.y(count / top), this.y(0) - 2);
      const x = LEFT + index * width + Math.min(2, width / 8);
      draw(this.svg, "rect", { class: "column", x, y, width: Math.max(width - Math.min(4, width / 4), 1), height: this.y(0) - y, rx: 2 });
    });
    const every = Math.ceil(this.columns.length / Math.max(2, Math.floor((this.width - LEFT) / 64)));
    this.columns.forEach(([bound], index) => {
      const middle = LEFT + (index + 0.5) * width;
      if (index % every === 0 && middle < this.width - 20) this.foot(middle, "middle", this.unit(bound));
    });
  }

  point(x) {
    if (x === null || x < LEFT || !this.columns.length) return this.say(0, null);
    const width = (this.width - LEFT) / this.columns.length;
    const [bound, count] = this.columns[Math.min(Math.floor((x - LEFT) / width), this.columns.length - 1)];
    this.say(x, `up to ${this.unit(bound)}: ${this.written(count)}`);
  }
}

/** The least bound that a share of the counts does not pass, null without counts. */
export function quantile(columns, share) {
  const total = columns.reduce((sum, [, count]) => sum + count, 0);
  let left = total * share;
  for (const [bound, count] of columns) {
    left -= count;
    if (count && left <= 0) return bound;
  }
  return null;
}
