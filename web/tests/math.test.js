import assert from "node:assert/strict";
import test from "node:test";

import { formula } from "../js/markdown/math.js";
import { html } from "./markdown-samples.js";

const shown = (source) => html(formula(source, false)).replace(/^<math>(.*)<\/math>$/s, "$1");

function check(cases) {
  for (const [source, expected] of cases) assert.equal(shown(source), expected, source);
}

test("formulas become MathML", () => {
  check([
    ["x", "<mi>x</mi>"],
    ["n^2", "<msup><mi>n</mi><mn>2</mn></msup>"],
    ["a_{i+1}^2", "<msubsup><mi>a</mi><mrow><mi>i</mi><mo>+</mo><mn>1</mn></mrow><mn>2</mn></msubsup>"],
    ["\\frac{1}{2}", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"],
    ["\\sqrt{x}", "<msqrt><mi>x</mi></msqrt>"],
    ["\\sqrt[3]{x}", "<mroot><mi>x</mi><mn>3</mn></mroot>"],
    ["n \\log n", '<mrow><mi>n</mi><mo lspace="0.167em" rspace="0.167em">log</mo><mi>n</mi></mrow>'],
    ["\\sum_{i=1}^n", "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover>"],
    ["\\int_0^1", "<msubsup><mo>∫</mo><mn>0</mn><mn>1</mn></msubsup>"],
    ["\\mathbb{R}", "<mi>ℝ</mi>"],
    ["\\mathbf{v}", "<mi>𝐯</mi>"],
    ["\\text{if } x", "<mrow><mtext>if </mtext><mi>x</mi></mrow>"],
    ["f'", "<msup><mi>f</mi><mo>′</mo></msup>"],
    ["3.14", "<mn>3.14</mn>"],
    ["\\pi*2", "<mrow><mi>π</mi><mo>∗</mo><mn>2</mn></mrow>"],
    ["\\left( x \\right)", "<mrow><mo>(</mo><mi>x</mi><mo>)</mo></mrow>"],
    [
      "\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}",
      "<mrow><mo>(</mo><mtable><mtr><mtd><mi>a</mi></mtd><mtd><mi>b</mi></mtd></mtr><mtr><mtd><mi>c</mi></mtd><mtd><mi>d</mi></mtd></mtr></mtable><mo>)</mo></mrow>",
    ],
    ["\\hat{x}", "<mover><mi>x</mi><mo>^</mo></mover>"],
  ]);
  assert.deepEqual(formula("x", true).attrs, { display: "block" });
});

test("what is not known is shown as it was written", () => {
  for (const source of [
    "\\unheard{x}",
    "\\frac{1}",
    "{",
    "}",
    "x &",
    "\\left( x",
    "\\begin{a}x\\end{a}",
    "\\",
    "{".repeat(100),
    "\\frac".repeat(50),
  ]) {
    assert.deepEqual(formula(source, false), { tag: "span", attrs: { class: "math" }, kids: [source] }, source);
  }
});
