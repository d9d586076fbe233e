import assert from "node:assert/strict";
import test from "node:test";

import { blocks } from "../js/markdown/blocks.js";
import { inline } from "../js/markdown/inline.js";
import { LiveMarkdown } from "../js/markdown/live.js";
import { html, SAMPLES } from "./markdown-samples.js";

const whole = (source) =>
  blocks(source)
    .map(({ node }) => html(node))
    .join("");
const piece = (source) => inline(source).map(html).join("");

function check(render, cases) {
  for (const [source, expected] of cases) assert.equal(render(source), expected, JSON.stringify(source));
}

test("emphasis, code and breaks", () => {
  check(piece, [
    [
      "a *b* **c** ***d*** _e_ __f__ ~~g~~",
      "a <em>b</em> <strong>c</strong> <em><strong>d</strong></em> <em>e</em> <strong>f</strong> <del>g</del>",
    ],
    ["**bold *and* more**", "<strong>bold <em>and</em> more</strong>"],
    ["snake_case_name and 2 * 3 * 4", "snake_case_name and 2 * 3 * 4"],
    ["**open", "**open"],
    ["*a **b*", "*a *<em>b</em>"],
    ["`a*b*` ``c`d`` `open", "<code>a*b*</code> <code>c`d</code> `open"],
    ["\\*no\\* \\a", "*no* \\a"],
    ["one\ntwo", "one<br>two"],
    ["a ~ b ~~c~d~~", "a ~ b <del>c~d</del>"],
    ["**Note:**text", "<strong>Note:</strong>text"],
  ]);
});

test("formulas are not emphasis", () => {
  check(piece, [
    [
      "$a_1 * b_1$",
      "<math><mrow><msub><mi>a</mi><mn>1</mn></msub><mo>∗</mo><msub><mi>b</mi><mn>1</mn></msub></mrow></math>",
    ],
    ["\\(x_i\\)", "<math><msub><mi>x</mi><mi>i</mi></msub></math>"],
    ["$$e^{x}$$", '<math display="block"><msup><mi>e</mi><mi>x</mi></msup></math>'],
    ["$\\odd_1$ _a_", '<span class="math">\\odd_1</span> <em>a</em>'],
    ["from $5 to $6", "from $5 to $6"],
    ["$5-$6", "$5-$6"],
  ]);
});

test("links lead only where it is safe", () => {
  const link = (to, text) => `<a href="${to}">${text}</a>`;
  check(piece, [
    ["[a](https://e.org)", link("https://e.org", "a")],
    ['[a *b*](https://e.org "t")', link("https://e.org", "a <em>b</em>")],
    ["[a](https://e.org/x_(y))", link("https://e.org/x_(y)", "a")],
    ["see https://e.org/a_b_c, ok", `see ${link("https://e.org/a_b_c", "https://e.org/a_b_c")}, ok`],
    ["<mailto:a@e.org>", link("mailto:a@e.org", "mailto:a@e.org")],
    ["![cat](https://e.org/c.png)", `!${""}`.slice(1) + link("https://e.org/c.png", "cat")],
    ["[a](javascript:alert(1))", '<span class="dead-link">a</span>'],
    ["[a](JaVaScRiPt:alert(1))", '<span class="dead-link">a</span>'],
    ["[a](java\u0000script:alert(1))", '<span class="dead-link">a</span>'],
    ["[a](<java script:x>)", '<span class="dead-link">a</span>'],
    ["[a](data:text/html,x)", '<span class="dead-link">a</span>'],
    ["[a](vbscript:x)", '<span class="dead-link">a</span>'],
    ["[a](/relative)", '<span class="dead-link">a</span>'],
    ["<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"],
    ["<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)>"],
  ]);
});

test("blocks", () => {
  check(whole, [
    ["# A\nb\n## C ##", "<h1>A</h1><p>b</p><h2>C</h2>"],
    ["A\n===\nB\n---", "<h1>A</h1><h2>B</h2>"],
    ["a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"],
    ["```rust\nfn a() {}\n```\nb", "<code-block rust>fn a() {}</code-block><p>b</p>"],
    ["```\nopen", "<code-block open>open</code-block>"],
    ["````\n```\n````", "<code-block>```</code-block>"],
    ["> a\n> b\nlazy\n\nc", "<blockquote><p>a<br>b<br>lazy</p></blockquote><p>c</p>"],
    ["#hash", "<p>#hash</p>"],
    ["$$\nx\n- 1\n$$\nb", '<p><math display="block"><mrow><mi>x</mi><mo>−</mo><mn>1</mn></mrow></math></p><p>b</p>'],
    ["\\[ y \\]", '<p><math display="block"><mi>y</mi></math></p>'],
    ["$$ open", "<p>$$ open</p>"],
  ]);
});

test("lists", () => {
  check(whole, [
    ["- a\n- b", "<ul><li>a</li><li>b</li></ul>"],
    ["3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'],
    ["- a\n\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"],
    ["- a\n  - b\n- c", "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>"],
    ["1. a\n   - b\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"],
    // Less indented than the standard asks for, but meant as nested.
    ["1. a\n  - b\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"],
    ["1. a\n\n   ```\n   x\n   ```\n2. b", "<ol><li><p>a</p><code-block>x</code-block></li><li><p>b</p></li></ol>"],
    ["- a\nlazy\n\nb", "<ul><li>a<br>lazy</li></ul><p>b</p>"],
    ["- [ ] a\n- [x] b", '<ul><li class="task">a</li><li class="task done">b</li></ul>'],
    ["- a\n* * *\n- b", "<ul><li>a</li></ul><hr><ul><li>b</li></ul>"],
  ]);
});

test("tables", () => {
  const row = (tag, ...cells) => `<tr>${cells.map((c) => `<${tag}>${c}</${tag}>`).join("")}</tr>`;
  const table = (inner) => `<div class="table" tabindex="0"><table>${inner}</table></div>`;
  check(whole, [
    ["|a|b|\n|-|-|\n|1|2|", table(`<thead>${row("th", "a", "b")}</thead><tbody>${row("td", "1", "2")}</tbody>`)],
    [
      "a | b\n--- | ---\n`x|y` | \\|",
      table(`<thead>${row("th", "a", "b")}</thead><tbody>${row("td", "<code>x|y</code>", "|")}</tbody>`),
    ],
    ["|a|\n|-|-|", "<p>|a|<br>|-|-|</p>"],
  ]);
});

test("a growing text ends as the whole one, and settled blocks stay", () => {
  for (const sample of SAMPLES) {
    for (const step of [1, 3, 7, 40]) {
      const live = new LiveMarkdown();
      for (let end = 0; end < sample.length; end += step) live.read(sample.slice(0, end), false);
      const grown = live.read(sample, false).map(html).join("");
      assert.equal(grown, whole(sample), `in steps of ${step}`);
      assert.equal(live.read(sample, true).map(html).join(""), whole(sample));
    }
  }
  const live = new LiveMarkdown();
  const [first] = live.read("a\n\nb\nc", false);
  assert.equal(live.read("a\n\nb\nc\nd", false)[0], first);
});

test("no text is lost, hangs or fails", () => {
  const hostile = [
    "[".repeat(5000),
    "*a ".repeat(5000),
    "> ".repeat(3000),
    "- ".repeat(3000),
    "`".repeat(4001),
    "_*~".repeat(3000),
    "![](".repeat(2000),
    "|".repeat(5000),
    "$a".repeat(5000),
    `${"- a\n".repeat(3)}${" ".repeat(900)}- b`,
  ];
  for (const text of hostile) {
    const start = performance.now();
    whole(text);
    assert.ok(performance.now() - start < 1500, `${text.slice(0, 8)} took too long`);
  }
});

test("what a model writes that loops is read in no time", () => {
  const looping = ["\\(", "\\[", "\\[\n", "$a", "[", "[`", "![", "- ```\n# a\n", "**a", "1. a\n"].map((part) =>
    part.repeat(20_000 / part.length),
  );
  looping.push(`# ${" ".repeat(5000)}\u2028x`, `- \`\`\`\n${"# a\n".repeat(5000)}`);
  for (const text of looping) {
    const start = performance.now();
    blocks(text);
    const time = performance.now() - start;
    assert.ok(time < 1500, `${JSON.stringify(text.slice(0, 20))}: ${time} ms`);
  }
});
