// What the tests of Markdown share: a writer of HTML for comparison, and texts as models write them.

/** A node as HTML, for expectations only: the page itself never makes HTML. */
export function html(node) {
  if (typeof node === "string") return node.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  if (node.tag === "code-block") {
    const attributes = `${node.language ? ` ${node.language}` : ""}${node.isOpen ? " open" : ""}`;
    return `<code-block${attributes}>${html(node.text)}</code-block>`;
  }
  const attrs = Object.entries(node.attrs ?? {})
    .map(([name, value]) => ` ${name}="${value}"`)
    .join("");
  const inner = node.kids.map(html).join("");
  return ["br", "hr"].includes(node.tag) ? `<${node.tag}>` : `<${node.tag}${attrs}>${inner}</${node.tag}>`;
}

/** Long enough to have every kind of block beside every other. */
export const SAMPLES = [
  `# Sorting

Here is **quick sort**, in \`Rust\`:

\`\`\`rust
fn sort(v: &mut [i32]) {
    // two pivots

    if v.len() < 2 { return; }
}
\`\`\`

1. Pick a pivot
   - the first
   - the *median*

2. Split

   \`\`\`sh
   cargo run
   \`\`\`
3. Recur

> Note: worst case is
> quadratic

| case | cost |
|------|-----:|
| best | n log n |
| worst | n² |

---
Done. See https://example.org.`,
  "- one\n- two\n\n- three\n\n\ntext\n- four\n  - five\n\n    six\n\nseven\n===\n* a\n* b\n1) c\n2) d",
  "```\nnever closed\n\n- a\n# b",
  "a\n\n```py\nx = 1\n```\n\n~~~\n```\n~~~\n\n> - q\n>   r\n\n[l](https://a.b) *e*",
];
