// Calls of tools, and the form for their results: this page runs no tools, its reader answers for them.

import { h, setText } from "./h.js";
import { growing } from "./growing.js";
import { icon } from "./icons.js";

/** JSON on several lines; what is no JSON (yet) as it is. */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** The calls of an answer. */
export class Calls {
  #cards = [];
  #form = null;

  /** @param {(results: string[]) => void} onResults */
  constructor(onResults) {
    this.onResults = onResults;
    this.element = h("div", { class: "calls" });
  }

  /**
   * @param {{name: string, arguments: string}[]} calls
   * @param {boolean} isOpen whether the results are still to be given
   */
  update(calls, isOpen) {
    calls.forEach((call, index) => {
      this.#cards[index] ??= this.#card();
      const { name, text } = this.#cards[index];
      setText(name, call.name || "…");
      setText(text, pretty(call.arguments));
    });
    while (this.#cards.length > calls.length) this.#cards.pop().element.remove();
    if (isOpen && !this.#form) this.element.append((this.#form = this.#results(calls)));
    if (!isOpen && this.#form) {
      this.#form.remove();
      this.#form = null;
    }
  }

  #card() {
    const name = h("code", { class: "call-name" });
    const text = h("pre", { tabindex: "0" });
    const element = h(
      "section",
      { class: "call", "aria-label": "Tool call" },
      h("header", {}, icon("tool"), "Calls ", name),
      text,
    );
    this.element.insertBefore(element, this.#form);
    return { element, name, text };
  }

  #results(calls) {
    const fields = calls.map((call) =>
      growing(
        h("textarea", {
          class: "field mono",
          rows: "1",
          spellcheck: "false",
          "aria-label": `Result of ${call.name}`,
          placeholder: `What ${call.name} returns, such as {"value": 1}`,
        }),
      ),
    );
    const submit = (event) => {
      event.preventDefault();
      this.onResults(fields.map((field) => field.value));
    };
    const send = h("button", { class: "button strong" }, fields.length > 1 ? "Send results" : "Send result");
    return h("form", { class: "results", on: { submit } }, fields, h("div", { class: "edit-foot" }, send));
  }
}
