// Tables with pipes.

import { inline } from "./inline.js";

const DELIMITERS = /^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

/**
 * The table that begins at a line: {node, end}, or null.
 * @param {string[]} lines
 * @param {number} at
 */
export function readTable(lines, at) {
  const under = lines[at + 1];
  if (under === undefined || !lines[at].includes("|") || !under.includes("-") || !DELIMITERS.test(under)) return null;
  const head = cells(lines[at]);
  const sides = cells(under).map(side);
  if (sides.length !== head.length) return null;
  const rows = [];
  let end = at + 2;
  while (end < lines.length && lines[end].trim() && lines[end].includes("|")) {
    rows.push(cells(lines[end]));
    end += 1;
  }
  const row = (tag, texts) => ({
    tag: "tr",
    kids: sides.map((align, column) => ({
      tag,
      attrs: align ? { class: align } : undefined,
      kids: inline(texts[column] ?? ""),
    })),
  });
  const kids = [{ tag: "thead", kids: [row("th", head)] }];
  if (rows.length) kids.push({ tag: "tbody", kids: rows.map((texts) => row("td", texts)) });
  const table = { tag: "table", kids };
  return { node: { tag: "div", attrs: { class: "table", tabindex: "0" }, kids: [table] }, end };
}

/** The texts between the pipes of a line; an escaped pipe, or one inside of code, is text. */
function cells(line) {
  const found = [];
  let text = "";
  let isCode = false;
  const inner = line.trim().replace(/^\|/, "");
  for (let i = 0; i < inner.length; i += 1) {
    const char = inner[i];
    if (char === "\\" && inner[i + 1] === "|") {
      text += "|";
      i += 1;
    } else if (char === "|" && !isCode) {
      found.push(text.trim());
      text = "";
    } else {
      if (char === "`") isCode = !isCode && inner.includes("`", i + 1);
      text += char;
    }
  }
  if (text.trim()) found.push(text.trim());
  return found;
}

function side(text) {
  const [left, right] = [text.startsWith(":"), text.endsWith(":")];
  if (left && right) return "center";
  return right ? "right" : "";
}
