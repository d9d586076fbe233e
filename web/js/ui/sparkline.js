// The last minute of a figure as a line.

const POINTS = 60;
const WIDTH = 300;
const HEIGHT = 56;
const SVG = "http://www.w3.org/2000/svg";

export class Sparkline {
  #values = [];

  constructor(label) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("class", "sparkline");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    this.area = document.createElementNS(SVG, "path");
    this.area.setAttribute("class", "area");
    this.line = document.createElementNS(SVG, "path");
    this.line.setAttribute("class", "line");
    svg.append(this.area, this.line);
    this.element = svg;
    this.#draw();
  }

  add(value) {
    this.#values.push(value);
    if (this.#values.length > POINTS) this.#values.shift();
    this.#draw();
  }

  #draw() {
    const most = Math.max(1, ...this.#values);
    const first = POINTS - this.#values.length;
    const points = this.#values.map((value, index) => {
      const x = ((first + index) * WIDTH) / (POINTS - 1);
      const y = HEIGHT - 2 - (value / most) * (HEIGHT - 6);
      return `${x.toFixed(1)} ${y.toFixed(1)}`;
    });
    const floor = HEIGHT - 1;
    const start = points.length ? points : [`0 ${floor}`, `${WIDTH} ${floor}`];
    const path = `M${start.join("L")}`;
    this.line.setAttribute("d", path);
    const from = ((first * WIDTH) / (POINTS - 1)).toFixed(1);
    this.area.setAttribute("d", points.length ? `${path}L${WIDTH} ${HEIGHT}L${from} ${HEIGHT}Z` : "");
  }
}
