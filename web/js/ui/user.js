// A reader's message: as it was typed, to be edited in place.

import { imagesOf, textOf } from "../chat/tree.js";
import { Branches } from "./branches.js";
import { button, iconButton } from "./button.js";
import { copyButton } from "./copy.js";
import { growing } from "./growing.js";
import { h } from "./h.js";

/** Longer messages are shown in part. */
const LONG_CHARS = 1800;
const LONG_LINES = 24;

export class UserMessage {
  constructor(app, node) {
    this.app = app;
    this.node = node;
    this.branches = new Branches((by) => app.step(node.id, by));
    const images = imagesOf(node).map((url) => h("img", { src: url, alt: "Attached image" }));
    const typed = h("div", { class: "typed" }, textOf(node));
    this.body = h(
      "div",
      { class: "bubble" },
      images.length > 0 && h("div", { class: "images" }, images),
      typed,
      isLong(textOf(node)) && unfolding(typed),
    );
    this.actions = h(
      "div",
      { class: "actions" },
      this.branches.element,
      iconButton("edit", "Edit", () => this.edit(), { data: { act: "edit" } }),
      copyButton(() => textOf(node), "Copy message"),
      iconButton("trash", "Remove from here on", () => app.removeMessage(node.id)),
    );
    this.element = h("article", { class: "message user", "aria-label": "You" }, this.body, this.actions);
  }

  update({ branch }) {
    if (branch) this.branches.update(branch);
  }

  /** Lets the reader write it anew: what is sent becomes another version. */
  edit() {
    if (this.element.querySelector("form")) return;
    const field = growing(
      h("textarea", { class: "field", "aria-label": "Edit message", rows: "1", value: textOf(this.node) }),
    );
    const end = () => {
      form.remove();
      this.body.hidden = this.actions.hidden = false;
      this.actions.querySelector('[data-act="edit"]').focus();
    };
    const submit = (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (!text || this.app.running()) return;
      end();
      this.app.edit(this.node.id, text);
    };
    const keydown = (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        end();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
    };
    field.addEventListener("keydown", keydown);
    const foot = h(
      "div",
      { class: "edit-foot" },
      button("Cancel", end),
      h("button", { class: "button strong" }, "Send"),
    );
    const form = h("form", { class: "edit", on: { submit } }, field, foot);
    this.body.hidden = this.actions.hidden = true;
    this.element.append(form);
    field.fit();
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }
}

function isLong(text) {
  return text.length > LONG_CHARS || text.split("\n", LONG_LINES + 1).length > LONG_LINES;
}

/** Folds a text, and gives the button that unfolds it. */
function unfolding(typed) {
  typed.classList.add("folded");
  const toggle = button(
    "Show all",
    () => {
      const isFolded = typed.classList.toggle("folded");
      toggle.textContent = isFolded ? "Show all" : "Show less";
      toggle.setAttribute("aria-expanded", String(!isFolded));
    },
    { class: "button small", "aria-expanded": "false" },
  );
  return toggle;
}
