// Blocks of code: their language, a button that copies them, and colours once they are complete.

import { copyButton } from "../ui/copy.js";
import { h } from "../ui/h.js";
import { colours } from "./colours.js";

/** An element for a block of code. */
export function codeBlock(node) {
  const text = document.createTextNode(node.text);
  const code = h("code", {}, text);
  const name = h("span", { class: "language" }, node.language || "text");
  const head = h(
    "div",
    { class: "code-head" },
    name,
    copyButton(() => code.textContent, "Copy code"),
  );
  const block = h("div", { class: "code-block" }, head, h("pre", { tabindex: "0" }, code));
  if (!node.isOpen) paint(code, node);
  return block;
}

/** Brings an element up to date. */
export function patchCodeBlock(block, before, after) {
  const code = block.querySelector("code");
  if (before.language !== after.language) block.querySelector(".language").textContent = after.language || "text";
  if (!before.isOpen && !after.isOpen && before.text === after.text && before.language === after.language) return;
  if (before.isOpen && after.text.startsWith(before.text)) {
    code.firstChild.appendData(after.text.slice(before.text.length));
  } else {
    code.replaceChildren(document.createTextNode(after.text));
  }
  if (!after.isOpen) paint(code, after);
}

function paint(code, { text, language }) {
  const pieces = colours(text, language);
  if (pieces)
    code.replaceChildren(...pieces.map(([kind, piece]) => (kind ? h("span", { class: `c-${kind}` }, piece) : piece)));
}
