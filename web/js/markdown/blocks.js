// Markdown to blocks: headings, paragraphs, lists, quotes, tables, code.
//
// HTML is text here. Indented text is a paragraph, not code: models indent by accident more often than on purpose.

import { inline } from "./inline.js";
import { formula } from "./math.js";
import { readTable } from "./table.js";

const HEADING = /^ {0,3}(#{1,6})(?:[ \t](.*))?$/s;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const FENCE = /^([ \t]*)(`{3,}(?=[^`]*$)|~{3,})[ \t]*(.*)$/;
const QUOTE = /^ {0,3}>[ ]?/;
const ITEM = /^([ \t]*)([-*+]|\d{1,9}[.)])(?:([ \t]+)|$)/;
const UNDERLINE = /^ {0,3}(=+|-+)[ \t]*$/;
/** A formula on lines of its own. */
const FORMULA = /^[ \t]*(\$\$|\\\[)(.*)$/;
/** In lines: further no end of one is looked for. */
const LONGEST_FORMULA = 200;
const DEEPEST = 16;

/**
 * @param {string} source
 * @returns {{node: object, start: number}[]} the blocks, with the place in `source` where each begins
 */
export function blocks(source) {
  const lines = source.split("\n");
  const starts = [];
  let offset = 0;
  for (const line of lines) {
    starts.push(offset);
    offset += line.length + 1;
  }
  return parse(lines, 0).map(({ node, line }) => ({ node, start: starts[line] }));
}

function nodes(lines, depth) {
  return parse(lines, depth).map(({ node }) => node);
}

function parse(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const taken = block(lines, at, depth);
    found.push({ node: taken.node, line: at });
    at = taken.end;
  }
  return found;
}

/** The block that begins at a line: {node, end}. */
function block(lines, at, depth) {
  const line = lines[at];
  const heading = HEADING.exec(line);
  if (heading) return { node: { tag: `h${heading[1].length}`, kids: inline(titleOf(heading[2] ?? "")) }, end: at + 1 };
  if (FENCE.test(line)) return fenced(lines, at);
  if (RULE.test(line)) return { node: { tag: "hr", kids: [] }, end: at + 1 };
  if (depth < DEEPEST && QUOTE.test(line)) return quote(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return list(lines, at, depth);
  return readTable(lines, at) ?? formulaBlock(lines, at) ?? paragraph(lines, at);
}

/** A heading's text, without the marks that some put behind it as well. */
function titleOf(text) {
  const title = text.trim();
  const bare = title.replace(/#+$/, "");
  return bare === "" || /[ \t]$/.test(bare) ? bare.trim() : title;
}

function formulaBlock(lines, at) {
  const found = FORMULA.exec(lines[at]);
  if (!found) return null;
  const close = found[1] === "$$" ? "$$" : "\\]";
  const text = [found[2]];
  let end = at;
  while (!text.at(-1).includes(close)) {
    end += 1;
    if (end >= lines.length || end - at > LONGEST_FORMULA || !lines[end].trim()) return null;
    text.push(lines[end]);
  }
  // What stands behind it makes it part of a paragraph.
  if (!text.at(-1).trimEnd().endsWith(close)) return null;
  const source = text.join("\n").trimEnd().slice(0, -close.length);
  return source.trim() && !source.includes(close)
    ? { node: { tag: "p", kids: [formula(source, true)] }, end: end + 1 }
    : null;
}

function fenced(lines, at) {
  const [, indent, fence, info] = FENCE.exec(lines[at]);
  const close = new RegExp(`^[ \\t]*\\${fence[0]}{${fence.length},}[ \\t]*$`);
  const text = [];
  let end = at + 1;
  while (end < lines.length && !close.test(lines[end])) {
    text.push(lines[end].replace(new RegExp(`^[ \\t]{0,${indent.length}}`), ""));
    end += 1;
  }
  const isOpen = end >= lines.length;
  const language = /^[\w+#.-]*/.exec(info.trim())[0];
  return {
    node: { tag: "code-block", language, text: text.join("\n"), isOpen, kids: [] },
    end: isOpen ? end : end + 1,
  };
}

function quote(lines, at, depth) {
  const inner = [];
  let end = at;
  while (end < lines.length && (QUOTE.test(lines[end]) || goesOn(lines, end, at))) {
    inner.push(lines[end].replace(QUOTE, ""));
    end += 1;
  }
  return { node: { tag: "blockquote", kids: nodes(inner, depth + 1) }, end };
}

/** Whether a line without a mark of its own belongs to the paragraph before it. */
function goesOn(lines, at, first) {
  return at > first && lines[at].trim() !== "" && lines[at - 1].trim() !== "" && !begins(lines[at]);
}

/** Whether a line begins a block that ends a paragraph. */
function begins(line) {
  return HEADING.test(line) || FENCE.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);
}

function list(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  const kind = kindOf(first[2]);
  const base = width(first[1]);
  const items = [];
  let isLoose = false;
  let end = at;
  while (end < lines.length) {
    const found = ITEM.exec(lines[end]);
    if (!found || kindOf(found[2]) !== kind || RULE.test(lines[end])) break;
    const item = readItem(lines, end, found, base);
    // Blank lines between two items, or between blocks of one, spread the list out.
    const next = skipBlank(lines, item.end);
    const goes = next < lines.length && kindOf(ITEM.exec(lines[next])?.[2]) === kind;
    isLoose ||= item.isLoose || (goes && next > item.end);
    items.push(item.lines);
    end = goes ? next : item.end;
    if (!goes) break;
  }
  const kids = items.map((inner) => itemNode(inner, isLoose, depth));
  const isOrdered = kind !== "-";
  const start = isOrdered ? parseInt(first[2], 10) : 1;
  const attrs = isOrdered && start !== 1 ? { start: String(start) } : undefined;
  return { node: { tag: isOrdered ? "ol" : "ul", attrs, kids }, end };
}

/** The lines of an item, without their indentation, and where it ends. */
function readItem(lines, at, found, base) {
  const [mark] = found;
  const gap = found[3] ?? " ";
  const indent = mark.length - gap.length + (gap.length > 4 ? 1 : gap.length);
  const inner = [];
  const fence = new Fence();
  const push = (line) => {
    inner.push(line);
    fence.pass(line);
  };
  push(lines[at].slice(indent));
  let isLoose = false;
  let end = at + 1;
  while (end < lines.length) {
    const line = lines[end];
    if (!line.trim()) {
      const next = skipBlank(lines, end);
      if (
        next >= lines.length ||
        width(lines[next]) <= base ||
        (ITEM.test(lines[next]) && width(lines[next]) < base + 2)
      )
        break;
      isLoose ||= !ITEM.test(lines[next]) && !fence.isOpen;
      while (end < next) {
        push("");
        end += 1;
      }
      continue;
    }
    const isOwn = width(line) >= Math.min(indent, base + 2);
    if (!isOwn && (begins(line) || lines[end - 1].trim() === "") && !fence.isOpen) break;
    push(isOwn ? line.slice(Math.min(indent, width(line))) : line.trimStart());
    end += 1;
  }
  return { lines: inner, isLoose, end };
}

/** Follows lines, and knows whether they are inside a fence. */
class Fence {
  #open = null;

  pass(line) {
    const fence = FENCE.exec(line)?.[2];
    if (!fence) return;
    if (this.#open === null) this.#open = fence;
    else if (fence.startsWith(this.#open)) this.#open = null;
  }

  get isOpen() {
    return this.#open !== null;
  }
}

function itemNode(lines, isLoose, depth) {
  const task = /^\[([ xX])\][ \t]+/.exec(lines[0]);
  const own = task ? [lines[0].slice(task[0].length), ...lines.slice(1)] : lines;
  let kids = nodes(own, depth + 1);
  if (!isLoose) kids = kids.flatMap((kid) => (kid.tag === "p" ? kid.kids : [kid]));
  if (!task) return { tag: "li", kids };
  const isDone = task[1] !== " ";
  return { tag: "li", attrs: { class: isDone ? "task done" : "task" }, kids };
}

function kindOf(mark) {
  if (mark === undefined) return null;
  return /\d/.test(mark) ? mark.at(-1) : "-";
}

function skipBlank(lines, at) {
  while (at < lines.length && !lines[at].trim()) at += 1;
  return at;
}

/** Columns before the first character. */
function width(line) {
  return line.length - line.trimStart().length;
}

function paragraph(lines, at) {
  const text = [lines[at].trim()];
  let end = at + 1;
  while (end < lines.length && lines[end].trim()) {
    const underline = UNDERLINE.exec(lines[end]);
    if (underline) {
      const tag = underline[1][0] === "=" ? "h1" : "h2";
      return { node: { tag, kids: inline(text.join("\n")) }, end: end + 1 };
    }
    if (begins(lines[end]) || readTable(lines, end)) break;
    text.push(lines[end].trim());
    end += 1;
  }
  return { node: { tag: "p", kids: inline(text.join("\n")) }, end };
}
