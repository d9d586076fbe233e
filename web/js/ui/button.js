// Buttons.

import { h } from "./h.js";
import { icon } from "./icons.js";

/** A button that is only an icon, with its name for those who hover or listen. */
export function iconButton(name, label, onClick, props = {}) {
  const on = { click: onClick };
  return h(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, on, ...props },
    icon(name),
  );
}

/** A button with words. */
export function button(label, onClick, props = {}) {
  return h("button", { type: "button", class: "button", on: { click: onClick }, ...props }, label);
}
