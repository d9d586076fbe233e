// A few colours for code: comments, strings, numbers, words of the language. Not a parser of anything.

const WORDS = {
  c: "auto bool break case catch char class const continue default delete do double else enum extern false final float for friend goto if inline int long namespace new nullptr operator override private protected public return short signed sizeof static struct switch template this throw true try typedef typename union unsigned using virtual void volatile while",
  go: "break case chan const continue default defer else false fallthrough for func go goto if import interface map nil package range return select struct switch true type var",
  java: "abstract boolean break byte case catch char class const continue default do double else enum extends false final finally float for fun if implements import instanceof int interface internal long new null object override package private protected public return sealed short static super switch this throw throws true try val var void when while",
  js: "as async await break case catch class const continue default delete do else enum export extends false finally for from function get if implements import in instanceof interface let new null of private public readonly return set static super switch this throw true try type typeof undefined var void while yield",
  py: "False None True and as assert async await break case class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return self try while with yield",
  rust: "Self as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub ref return self static struct super trait true type unsafe use where while",
  sh: "case do done elif else esac exit export fi for function if in local read return set shift then until while",
  sql: "ALTER AND AS ASC BETWEEN BY CASE CREATE DELETE DESC DISTINCT DROP ELSE END EXISTS FROM GROUP HAVING IN INNER INSERT INTO IS JOIN KEY LEFT LIKE LIMIT NOT NULL ON OR ORDER OUTER PRIMARY RIGHT SELECT SET TABLE THEN UNION UNIQUE UPDATE VALUES WHEN WHERE WITH",
  data: "true false null",
};
const C_LIKE = String.raw`\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)`;
const HASH = String.raw`#[^\n]*`;
const NAMES = {
  c: ["c", C_LIKE],
  "c++": ["c", C_LIKE],
  cpp: ["c", C_LIKE],
  cs: ["java", C_LIKE],
  csharp: ["java", C_LIKE],
  go: ["go", C_LIKE],
  golang: ["go", C_LIKE],
  java: ["java", C_LIKE],
  kotlin: ["java", C_LIKE],
  swift: ["java", C_LIKE],
  javascript: ["js", C_LIKE],
  js: ["js", C_LIKE],
  jsx: ["js", C_LIKE],
  ts: ["js", C_LIKE],
  tsx: ["js", C_LIKE],
  typescript: ["js", C_LIKE],
  rs: ["rust", C_LIKE],
  rust: ["rust", C_LIKE],
  css: ["data", String.raw`\/\*[^]*?(?:\*\/|$)`],
  py: ["py", HASH],
  python: ["py", HASH],
  rb: ["py", HASH],
  ruby: ["py", HASH],
  bash: ["sh", HASH],
  sh: ["sh", HASH],
  shell: ["sh", HASH],
  zsh: ["sh", HASH],
  console: ["sh", HASH],
  sql: ["sql", String.raw`--[^\n]*|\/\*[^]*?(?:\*\/|$)`],
  json: ["data", null],
  jsonc: ["data", C_LIKE],
  toml: ["data", HASH],
  yaml: ["data", HASH],
  yml: ["data", HASH],
};
/** Longer texts stay plain: nobody waits for colours. */
const LONGEST = 60_000;
const made = new Map();

/**
 * The text in pieces with their kinds ("" for plain), or null for a language that is not known.
 * @returns {[string, string][] | null}
 */
export function colours(text, language) {
  const known = NAMES[language.toLowerCase()];
  if (!known || text.length > LONGEST) return null;
  const pattern = patternOf(...known);
  const pieces = [];
  let end = 0;
  for (const found of text.matchAll(pattern)) {
    if (found.index > end) pieces.push(["", text.slice(end, found.index)]);
    const kind = Object.keys(found.groups).find((name) => found.groups[name] !== undefined);
    pieces.push([kind, found[0]]);
    end = found.index + found[0].length;
  }
  if (end < text.length) pieces.push(["", text.slice(end)]);
  return pieces;
}

function patternOf(words, comment) {
  const key = `${words} ${comment}`;
  if (!made.has(key)) {
    const flags = words === "sql" ? "gi" : "g";
    const triple = words === "py" ? String.raw`"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|` : "";
    const tick = words === "js" || words === "go" ? String.raw`|\x60(?:[^\x60\\]|\\[^])*(?:\x60|$)` : "";
    // A lone quote is a lifetime in Rust.
    const single = words === "rust" ? String.raw`'(?:[^'\\\n]|\\.)'` : String.raw`'(?:[^'\\\n]|\\.)*'`;
    const parts = [
      comment && `(?<comment>${comment})`,
      String.raw`(?<string>${triple}"(?:[^"\\\n]|\\.)*"|${single}${tick})`,
      `(?<word>\\b(?:${WORDS[words].replaceAll(" ", "|")})\\b)`,
      String.raw`(?<number>\b(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\w*)`,
      String.raw`(?<name>\b[A-Za-z_]\w*(?=\())`,
    ];
    made.set(key, new RegExp(parts.filter(Boolean).join("|"), flags));
  }
  return made.get(key);
}
