// How full something is.

import { h, setText } from "./h.js";

export class Meter {
  /**
   * @param {string} label
   * @param {string[]} kinds of its parts, for their colours
   */
  constructor(label, kinds) {
    this.words = h("span", { class: "meter-words" });
    this.parts = kinds.map((kind) => h("span", { class: `part ${kind}` }));
    this.bar = h(
      "span",
      { class: "meter-bar", role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" },
      this.parts,
    );
    this.element = h(
      "div",
      { class: "meter" },
      h("span", { class: "meter-head" }, h("span", {}, label), this.words),
      this.bar,
    );
  }

  update(parts, whole, words) {
    const share = (part) => (whole > 0 ? Math.min(100, (100 * part) / whole) : 0);
    parts.forEach((part, index) => {
      this.parts[index].style.width = `${share(part)}%`;
    });
    const sum = parts.reduce((all, part) => all + part, 0);
    this.bar.setAttribute("aria-valuenow", String(Math.round(share(sum))));
    this.bar.setAttribute("aria-valuetext", words);
    setText(this.words, words);
  }
}
