// Descriptions of nodes to elements, changing only what is different.
//
// This is the one place where a model's text becomes elements: only those named here, with only these attributes.

import { codeBlock, patchCodeBlock } from "./code.js";

const TAGS = new Set([
  "p",
  "h1",
  "h2",
  "h3",
  "h4",
  "h5",
  "h6",
  "ul",
  "ol",
  "li",
  "blockquote",
  "hr",
  "br",
  "em",
  "strong",
  "del",
  "code",
  "a",
  "span",
  "div",
  "table",
  "thead",
  "tbody",
  "tr",
  "th",
  "td",
]);
const MATH_TAGS = new Set([
  "math",
  "mrow",
  "mi",
  "mn",
  "mo",
  "mtext",
  "mspace",
  "mfrac",
  "msqrt",
  "mroot",
  "msup",
  "msub",
  "msubsup",
  "mover",
  "munder",
  "munderover",
  "mtable",
  "mtr",
  "mtd",
]);
const MATH = "http://www.w3.org/1998/Math/MathML";
const ATTRIBUTES = new Set([
  "class",
  "href",
  "start",
  "tabindex",
  "display",
  "mathvariant",
  "stretchy",
  "linethickness",
  "width",
  "lspace",
  "rspace",
]);
const shown = new WeakMap();

/**
 * Makes the children of an element be these nodes.
 * @param {Element} parent whose children are all made here
 * @param {(string | object)[]} nodes
 */
export function show(parent, nodes) {
  patchKids(parent, shown.get(parent) ?? [], nodes);
  shown.set(parent, nodes);
}

function patchKids(parent, before, after) {
  const common = Math.min(before.length, after.length);
  for (let i = 0; i < common; i += 1) {
    if (before[i] !== after[i]) patch(parent, parent.childNodes[i], before[i], after[i]);
  }
  while (parent.childNodes.length > after.length) parent.lastChild.remove();
  for (const node of after.slice(common)) parent.append(make(node));
}

function patch(parent, element, before, after) {
  if (typeof before === "string" && typeof after === "string") {
    // Adding to a text leaves a reader's selection alone.
    if (after.startsWith(before)) element.appendData(after.slice(before.length));
    else element.data = after;
    return;
  }
  if (typeof before === "string" || typeof after === "string" || before.tag !== after.tag) {
    parent.replaceChild(make(after), element);
    return;
  }
  if (after.tag === "code-block") {
    patchCodeBlock(element, before, after);
    return;
  }
  setAttributes(element, after.attrs, before.attrs);
  patchKids(element, before.kids, after.kids);
}

function make(node) {
  if (typeof node === "string") return document.createTextNode(node);
  if (node.tag === "code-block") return codeBlock(node);
  const element = MATH_TAGS.has(node.tag)
    ? document.createElementNS(MATH, node.tag)
    : document.createElement(TAGS.has(node.tag) ? node.tag : "span");
  setAttributes(element, node.attrs, undefined);
  for (const kid of node.kids) element.append(make(kid));
  return element;
}

function setAttributes(element, after = {}, before = {}) {
  for (const name of Object.keys(before)) {
    if (!(name in after)) element.removeAttribute(name);
  }
  for (const [name, value] of Object.entries(after)) {
    if (!ATTRIBUTES.has(name) || before[name] === value) continue;
    element.setAttribute(name, value);
    if (name === "href") {
      element.setAttribute("target", "_blank");
      element.setAttribute("rel", "noopener noreferrer nofollow");
    }
  }
}
