// The result of a call, as it was given.

import { h, setText } from "./h.js";
import { pretty } from "./call.js";

export class ToolMessage {
  constructor(app, node) {
    this.node = node;
    this.text = h("pre", { tabindex: "0" }, pretty(node.content));
    const head = h("summary", {}, "Result of ", h("code", {}, node.name || "a tool"));
    this.element = h(
      "article",
      { class: "message result", "aria-label": `Result of ${node.name}` },
      h("details", { class: "fold", open: node.content.length < 400 }, head, this.text),
    );
  }

  update() {
    setText(this.text, pretty(this.node.content));
  }
}
