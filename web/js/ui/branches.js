// The way from a message to its alternatives.

import { iconButton } from "./button.js";
import { h, setText } from "./h.js";

/** Arrows and a count; hidden where there is one message only. */
export class Branches {
  constructor(step) {
    this.back = iconButton("left", "Previous version", () => step(-1));
    this.forth = iconButton("right", "Next version", () => step(1));
    this.count = h("span", { class: "branch-count" });
    this.element = h(
      "span",
      { class: "branches", role: "group", "aria-label": "Versions", hidden: true },
      this.back,
      this.count,
      this.forth,
    );
  }

  update({ at, of }) {
    this.element.hidden = of < 2;
    this.back.disabled = at === 0;
    this.forth.disabled = at === of - 1;
    setText(this.count, `${at + 1}/${of}`);
  }
}
