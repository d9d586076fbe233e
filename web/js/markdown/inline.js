// Emphasis, code, links and breaks inside a block: text to a list of nodes.
//
// A node is a text or {tag, attrs?, kids}. Nothing here makes anything but plain descriptions; what may become an
// element is decided in dom.js.

import { safeAddress } from "./links.js";
import { formula } from "./math.js";

const ESCAPABLE = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}]/u;
const SPACE = /\s/u;
const BARE_LINK = /^https?:\/\/[^\s<>"'`]*[^\s<>"'`.,;:!?)\]}*_~]/i;
const LONGEST_NESTING = 24;
const LONGEST_LABEL = 2000;
/** Further than this no end of a formula is looked for. */
const LONGEST_FORMULA = 4000;

/**
 * @param {string} text
 * @returns {(string | object)[]}
 */
export function inline(text, depth = 0) {
  const tokens = [];
  let plain = "";
  let pairs = null;
  // Found once for the whole text: a model that loops writes thousands of brackets.
  const closings = () => (pairs ??= pairsOf(text));
  const flush = () => {
    if (plain) tokens.push(plain);
    plain = "";
  };
  const put = (node) => {
    flush();
    tokens.push(node);
  };
  let at = 0;
  while (at < text.length) {
    const char = text[at];
    const taken = SPECIAL.has(char) ? special(text, at, depth, closings) : null;
    if (taken) {
      if (typeof taken.node === "string") plain += taken.node;
      else put(taken.node);
      at = taken.end;
    } else {
      plain += char;
      at += 1;
    }
  }
  flush();
  return emphasize(tokens);
}

const SPECIAL = new Set("\\`*_~[!<\n$hH");

/** What begins at a place: {node, end}, or null if the character stands for itself. */
function special(text, at, depth, closings) {
  switch (text[at]) {
    case "\\":
      return math(text, at, "\\(", "\\)", false) ?? math(text, at, "\\[", "\\]", true) ?? escape(text, at);
    case "`":
      return code(text, at);
    case "*":
    case "_":
    case "~":
      return run(text, at);
    case "$":
      return math(text, at, "$$", "$$", true) ?? dollars(text, at);
    case "!":
      return text[at + 1] === "[" ? link(text, at + 1, depth, closings) : null;
    case "[":
      return link(text, at, depth, closings);
    case "<":
      return angle(text, at);
    case "\n":
      return { node: { tag: "br", kids: [] }, end: at + 1 };
    default:
      return bare(text, at);
  }
}

function escape(text, at) {
  const next = text[at + 1];
  if (next === "\n") return { node: { tag: "br", kids: [] }, end: at + 2 };
  return next && ESCAPABLE.test(next) ? { node: next, end: at + 2 } : null;
}

function code(text, at) {
  const fence = /^`+/.exec(text.slice(at))[0];
  let close = text.indexOf(fence, at + fence.length);
  while (close >= 0) {
    const isLonger = text[close + fence.length] === "`" || text[close - 1] === "`";
    if (!isLonger) break;
    close = text.indexOf(fence, skip(text, close, "`"));
  }
  if (close < 0) return { node: fence, end: at + fence.length };
  let inner = text.slice(at + fence.length, close).replace(/\n/g, " ");
  if (/^ .* $/.test(inner) && inner.trim()) inner = inner.slice(1, -1);
  return { node: { tag: "code", kids: [inner] }, end: close + fence.length };
}

function skip(text, at, char) {
  while (text[at] === char) at += 1;
  return at;
}

function math(text, at, open, end, isBlock) {
  if (!text.startsWith(open, at)) return null;
  const inner = text.slice(at + open.length, at + LONGEST_FORMULA);
  const length = inner.indexOf(end);
  if (length < 1) return null;
  return { node: formula(inner.slice(0, length), isBlock), end: at + open.length + length + end.length };
}

/** `$x_1$`, but not the prices in `from $5 to $6`. */
function dollars(text, at) {
  const found = /^\$(?![\s$])((?:[^$\\\n]|\\.)*[^\s$\\])\$(?!\d)/.exec(text.slice(at, at + 400));
  return found && { node: formula(found[1], false), end: at + found[0].length };
}

function link(text, at, depth, closings) {
  const close = depth < LONGEST_NESTING ? closings().get(at) : undefined;
  if (close === undefined || close - at > LONGEST_LABEL || text[close + 1] !== "(") return null;
  const target = /^\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\([^\s()]*\))*))(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/.exec(
    text.slice(close + 1, close + 2100),
  );
  if (!target) return null;
  const label = text.slice(at + 1, close);
  const address = safeAddress(target[1] ?? target[2].replace(/\\(.)/g, "$1"));
  const kids = inline(label, depth + 1);
  const isImage = text[at - 1] === "!";
  const end = close + 1 + target[0].length;
  if (!address) return { node: { tag: "span", attrs: { class: "dead-link" }, kids }, end };
  // Pictures are not loaded: nothing on this page asks another server for anything.
  return { node: anchor(address, kids.length || !isImage ? kids : [address]), end };
}

/** Where each bracket that opens is closed. */
function pairsOf(text) {
  const pairs = new Map();
  const open = [];
  for (let i = 0; i < text.length; i += 1) {
    if (text[i] === "\\") i += 1;
    else if (text[i] === "`") i = code(text, i).end - 1;
    else if (text[i] === "[") open.push(i);
    else if (text[i] === "]" && open.length) pairs.set(open.pop(), i);
  }
  return pairs;
}

function angle(text, at) {
  const found = /^<((?:https?:\/\/|mailto:)[^\s<>]*)>/i.exec(text.slice(at, at + 2100));
  if (found) return { node: anchor(found[1], [found[1]]), end: at + found[0].length };
  const broken = /^<br\s*\/?>/i.exec(text.slice(at, at + 8));
  return broken && { node: { tag: "br", kids: [] }, end: at + broken[0].length };
}

function bare(text, at) {
  if (at > 0 && WORD.test(text[at - 1])) return null;
  const found = BARE_LINK.exec(text.slice(at, at + 2100));
  if (!found) return null;
  let [address] = found;
  // A closing parenthesis belongs to the address only if one was opened in it.
  if (text[at + address.length] === ")" && address.includes("(")) address += ")";
  return { node: anchor(address, [address]), end: at + address.length };
}

function anchor(address, kids) {
  return { tag: "a", attrs: { href: safeAddress(address) ?? "" }, kids };
}

/** A run of one delimiter, with what it may do. */
function run(text, at) {
  const end = skip(text, at, text[at]);
  const before = at > 0 ? text[at - 1] : " ";
  const after = text[end] ?? " ";
  const [left, right] = [flanks(before, after), flanks(after, before)];
  const isUnderscore = text[at] === "_";
  // The standard does not let `**Note:**text` end there, but models mean it to.
  const isBold = text[at] === "*" && end - at === 2 && !SPACE.test(before);
  return {
    node: {
      mark: text[at],
      count: end - at,
      opens: left && !(isUnderscore && right && isWordLike(before)),
      closes: isBold || (right && !(isUnderscore && left && isWordLike(after))),
    },
    end,
  };
}

function isWordLike(char) {
  return WORD.test(char);
}

/** Whether a run leans on what stands after it. */
function flanks(before, after) {
  if (SPACE.test(after)) return false;
  const isPunctuation = !WORD.test(after);
  return !isPunctuation || SPACE.test(before) || !WORD.test(before);
}

/** Pairs the delimiters, innermost first. */
function emphasize(tokens) {
  const stack = [{ kids: [] }];
  const top = () => stack.at(-1);
  const unwind = (depth) => {
    // What was opened and never closed stands for itself.
    while (stack.length > depth) {
      const { mark, count, kids } = stack.pop();
      append(top().kids, mark.repeat(count));
      for (const kid of kids) append(top().kids, kid);
    }
  };
  for (const token of tokens) {
    if (!token.mark) {
      append(top().kids, token);
      continue;
    }
    let left = token.count;
    while (token.closes && left > 0) {
      const depth = stack.findLastIndex((open) => open.mark === token.mark && fits(open, left));
      if (depth < 0) break;
      unwind(depth + 1);
      const open = stack.pop();
      const width = token.mark === "~" ? open.count : Math.min(2, open.count, left);
      const tag = token.mark === "~" ? "del" : width === 2 ? "strong" : "em";
      const node = { tag, kids: open.kids };
      if (open.count > width) stack.push({ mark: open.mark, count: open.count - width, kids: [node] });
      else append(top().kids, node);
      left -= width;
    }
    if (left > 0 && token.opens && stack.length < LONGEST_NESTING)
      stack.push({ mark: token.mark, count: left, kids: [] });
    else if (left > 0) append(top().kids, token.mark.repeat(left));
  }
  unwind(1);
  return stack[0].kids;
}

function fits(open, left) {
  return open.mark !== "~" || (open.count === left && left <= 2);
}

function append(kids, kid) {
  if (typeof kid === "string" && typeof kids.at(-1) === "string") kids[kids.length - 1] += kid;
  else if (kid !== "") kids.push(kid);
}
