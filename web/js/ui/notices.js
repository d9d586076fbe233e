// What a reader has to know: the server is away or wants a key; something was done and can be undone.

import { Standing } from "../chat/server.js";
import { button, iconButton } from "./button.js";
import { h } from "./h.js";

const TOAST_MS = 6000;

/** Shows at the top of the page how the server stands, if not well. */
export class Notices {
  #shown = "";

  constructor(app, place) {
    this.app = app;
    this.place = place;
    app.server.addEventListener("change", () => this.#update());
  }

  #update() {
    const { standing, why } = this.app.server;
    const shown = `${standing} ${why}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    if (standing === Standing.key) this.place.replaceChildren(this.#keyForm(why));
    else if (standing === Standing.away) this.place.replaceChildren(this.#away(why));
    else this.place.replaceChildren();
  }

  #away(why) {
    const retry = button("Try now", () => this.app.server.look());
    return h("div", { class: "notice", role: "alert" }, h("p", {}, why), retry);
  }

  #keyForm(why) {
    const field = h("input", {
      type: "password",
      class: "field",
      autocomplete: "off",
      "aria-label": "API key",
      placeholder: "API key",
      value: this.app.settings.get("key"),
    });
    const submit = (event) => {
      event.preventDefault();
      this.app.settings.set("key", field.value.trim());
      this.app.server.look();
    };
    const words = h("p", {}, why.replace(" Enter it in the settings.", ""));
    return h(
      "form",
      { class: "notice", role: "alert", on: { submit } },
      words,
      field,
      h("button", { class: "button strong" }, "Use key"),
    );
  }
}

/** Says something for a while, with what can be done about it. */
export function toast(text, action, onAction) {
  const places = document.getElementById("toasts");
  const remove = () => element.remove();
  const act =
    action &&
    button(action, () => {
      onAction();
      remove();
    });
  const element = h("div", { class: "toast" }, h("span", {}, text), act, iconButton("close", "Dismiss", remove));
  places.replaceChildren(element);
  setTimeout(remove, TOAST_MS);
}
