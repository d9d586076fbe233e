// Copying to the clipboard.

import { iconButton } from "./button.js";
import { h } from "./h.js";
import { icon } from "./icons.js";

const SHOWN_MS = 1400;

/** A button that copies a text and says so. */
export function copyButton(text, label) {
  const button = iconButton("copy", label, async () => {
    const isDone = await copy(text());
    button.replaceChildren(icon(isDone ? "check" : "close"));
    button.setAttribute("aria-label", isDone ? "Copied" : "The browser does not let this page copy");
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.setAttribute("aria-label", label);
    }, SHOWN_MS);
  });
  return button;
}

/** Copies a text; false where the browser refuses. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/** The old way: the new one is only there in secure contexts, which a page on a home network is not. */
function copyBySelection(text) {
  const focused = document.activeElement;
  const area = h("textarea", { class: "unseen", value: text, "aria-hidden": "true" });
  document.body.append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  focused?.focus?.();
  return isDone;
}
