// Formulas: the TeX that models write, to MathML, which browsers show by themselves.
//
// Not all of TeX: a formula with anything that is not known here is shown as it was written.

import { ACCENTS, DELIMITERS, FUNCTIONS, LARGE, SPACES, STYLES, SYMBOLS, styled } from "./math-symbols.js";

const LONGEST = 4000;
const DEEPEST = 40;
const TABLES = {
  matrix: ["", ""],
  pmatrix: ["(", ")"],
  bmatrix: ["[", "]"],
  Bmatrix: ["{", "}"],
  vmatrix: ["|", "|"],
  Vmatrix: ["‖", "‖"],
  cases: ["{", ""],
  aligned: ["", ""],
  align: ["", ""],
  "align*": ["", ""],
  gathered: ["", ""],
  array: ["", ""],
  split: ["", ""],
};
const TOKEN = /\\(?:operatorname\*|[a-zA-Z]+|[^a-zA-Z])|[{}^_&~']|\s+|\d+(?:[.,]\d+)*|[^\\]/gu;

/**
 * A node for a formula.
 * @param {string} source TeX, without its delimiters
 * @param {boolean} isBlock whether it has a line of its own
 */
export function formula(source, isBlock) {
  const tex = source.trim();
  try {
    const kids = new Reader(tex).whole();
    return { tag: "math", attrs: isBlock ? { display: "block" } : undefined, kids: [row(kids)] };
  } catch {
    return { tag: "span", attrs: { class: isBlock ? "math block" : "math" }, kids: [tex] };
  }
}

class Reader {
  #at = 0;
  #depth = 0;

  constructor(tex) {
    if (tex.length > LONGEST) throw new Error("too long");
    this.tokens = tex.match(TOKEN) ?? [];
    if (this.tokens.join("") !== tex) throw new Error("not TeX");
  }

  whole() {
    const kids = this.#until(() => false);
    if (this.#at < this.tokens.length) throw new Error("more than a formula");
    return kids;
  }

  #peek() {
    while (/^\s+$/.test(this.tokens[this.#at] ?? "")) this.#at += 1;
    return this.tokens[this.#at];
  }

  #next() {
    const token = this.#peek();
    if (token === undefined) throw new Error("it ends too early");
    this.#at += 1;
    return token;
  }

  /** Everything up to a token that `ends`, which is not taken, or the end. */
  #until(ends) {
    this.#depth += 1;
    if (this.#depth > DEEPEST) throw new Error("too deep");
    const kids = [];
    for (let token = this.#peek(); token !== undefined && !ends(token); token = this.#peek())
      kids.push(...this.#scripted());
    this.#depth -= 1;
    return kids;
  }

  /** An atom with what stands above and below it. */
  #scripted() {
    const base = this.#atom();
    let [above, below] = [null, null];
    for (let token = this.#peek(); token === "^" || token === "_" || token === "'"; token = this.#peek()) {
      this.#at += 1;
      if (token === "_") below = this.#argument();
      else above = token === "^" ? this.#argument() : op("′");
    }
    if (!above && !below) return base ? [base] : [];
    const isLimit = base?.isLarge;
    const foot = base ?? row([]);
    if (above && below) return [el(isLimit ? "munderover" : "msubsup", foot, below, above)];
    return [above ? el(isLimit ? "mover" : "msup", foot, above) : el(isLimit ? "munder" : "msub", foot, below)];
  }

  /** A group, or a single atom. */
  #argument() {
    if (this.#peek() !== "{") return this.#atom() ?? row([]);
    return row(this.#group());
  }

  #group() {
    if (this.#next() !== "{") throw new Error("a group was expected");
    const kids = this.#until((token) => token === "}");
    this.#next();
    return kids;
  }

  /** The text of a group, spaces and all. */
  #text() {
    if (this.#next() !== "{") throw new Error("a text was expected");
    let text = "";
    for (let depth = 1; ; this.#at += 1) {
      const token = this.tokens[this.#at];
      if (token === undefined) throw new Error("it ends too early");
      if (token === "{") depth += 1;
      if (token === "}") depth -= 1;
      if (depth === 0) break;
      text += /^\\[^a-zA-Z]$/.test(token) ? token.slice(1) : token;
    }
    this.#at += 1;
    return text;
  }

  #atom() {
    const token = this.#next();
    if (token === "{") {
      this.#at -= 1;
      return row(this.#group());
    }
    if (token === "^" || token === "_") {
      this.#at -= 1;
      return null;
    }
    if (token === "~") return el("mtext", "\u00a0");
    if (token === "}" || token === "&" || token === "\\\\") throw new Error(`${token} has no place here`);
    if (token.startsWith("\\")) return this.#command(token.slice(1));
    if (/^\d/.test(token)) return el("mn", token);
    if (/^\p{L}$/u.test(token)) return el("mi", token);
    return op(token === "-" ? "−" : token === "*" ? "∗" : token);
  }

  #command(name) {
    if (Object.hasOwn(SYMBOLS, name)) return symbol(SYMBOLS[name]);
    if (FUNCTIONS.has(name)) return named(name);
    if (Object.hasOwn(LARGE, name)) return { ...op(LARGE[name]), isLarge: !name.includes("int") };
    if (Object.hasOwn(SPACES, name)) return { tag: "mspace", attrs: { width: SPACES[name] }, kids: [] };
    if (Object.hasOwn(ACCENTS, name))
      return {
        ...el(name === "underline" || name === "underbrace" ? "munder" : "mover", this.#argument(), op(ACCENTS[name])),
        isLarge: /brace$/.test(name),
      };
    if (Object.hasOwn(STYLES, name)) return this.#styled(STYLES[name]);
    switch (name) {
      case "frac":
      case "dfrac":
      case "tfrac":
      case "cfrac":
        return el("mfrac", this.#argument(), this.#argument());
      case "binom":
      case "dbinom":
      case "tbinom":
        return row([
          op("("),
          { ...el("mfrac", this.#argument(), this.#argument()), attrs: { linethickness: "0" } },
          op(")"),
        ]);
      case "sqrt":
        return this.#root();
      case "text":
      case "textrm":
      case "textbf":
      case "textit":
      case "mbox":
      case "operatorname":
      case "operatorname*":
        return el("mtext", this.#text());
      case "left":
        return this.#fenced();
      case "begin":
        return this.#table();
      case "boxed":
      case "mathop":
      case "mathrel":
      case "mathbin":
      case "mathord":
        return this.#argument();
      case "not":
        return op(`${this.#next().replace(/^\\in$/, "∈")}\u0338`);
      case "displaystyle":
      case "textstyle":
      case "limits":
      case "nolimits":
        return row([]);
      case "big":
      case "Big":
      case "bigg":
      case "Bigg":
      case "bigl":
      case "bigr":
      case "Bigl":
      case "Bigr":
      case "middle":
        return op(this.#delimiter());
      default:
        throw new Error(`\\${name} is not known`);
    }
  }

  #styled(style) {
    const inner = this.#argument();
    return restyled(inner, style);
  }

  #root() {
    if (this.#peek() !== "[") return el("msqrt", this.#argument());
    this.#at += 1;
    const degree = row(this.#until((token) => token === "]"));
    this.#next();
    return el("mroot", this.#argument(), degree);
  }

  #delimiter() {
    const token = this.#next();
    if (token === ".") return "";
    if (!token.startsWith("\\")) return token;
    const found = DELIMITERS[token.slice(1)];
    if (found === undefined) throw new Error(`${token} is no delimiter`);
    return found;
  }

  #fenced() {
    const open = this.#delimiter();
    const inner = this.#until((token) => token === "\\right");
    this.#next();
    const close = this.#delimiter();
    return row([open && op(open, true), ...inner, close && op(close, true)].filter(Boolean));
  }

  #table() {
    const name = this.#text();
    if (!Object.hasOwn(TABLES, name)) throw new Error(`${name} is not known`);
    if (name === "array") this.#text();
    const rows = [[]];
    for (;;) {
      rows.at(-1).push({ tag: "mtd", kids: this.#until((token) => ["&", "\\\\", "\\end"].includes(token)) });
      const token = this.#next();
      if (token === "\\\\") rows.push([]);
      if (token === "\\end") break;
    }
    if (this.#text() !== name) throw new Error("it ends as something else");
    const filled = rows.filter((cells) => cells.some((cell) => cell.kids.length));
    const kind = /^(cases|align|split)/.test(name) ? "aligned" : "";
    const table = {
      tag: "mtable",
      attrs: kind ? { class: kind } : undefined,
      kids: filled.map((cells) => ({ tag: "mtr", kids: cells })),
    };
    const [open, close] = TABLES[name];
    return row([open && op(open, true), table, close && op(close, true)].filter(Boolean));
  }
}

function el(tag, ...kids) {
  return { tag, kids };
}

function row(kids) {
  return kids.length === 1 ? kids[0] : { tag: "mrow", kids };
}

function op(text, isStretchy) {
  return {
    tag: "mo",
    attrs: isStretchy ? undefined : /^[()[\]{}|‖]$/u.test(text) ? { stretchy: "false" } : undefined,
    kids: [text],
  };
}

/** A function by its name, with a little room around it. */
function named(name) {
  const attrs = { lspace: "0.167em", rspace: "0.167em" };
  return { tag: "mo", attrs, kids: [name], isLarge: /^(lim|max|min|sup|inf|arg)/.test(name) };
}

/** Letters are variables, everything else is an operator. */
function symbol(text) {
  return /^\p{L}|[∞∅ℓ∂∇]$/u.test(text) ? el("mi", text) : op(text);
}

function restyled(node, style) {
  if (typeof node === "string") return styled(node, style);
  const attrs = node.tag === "mi" && style === "normal" ? { ...node.attrs, mathvariant: "normal" } : node.attrs;
  return { ...node, attrs, kids: node.kids.map((kid) => restyled(kid, style)) };
}
