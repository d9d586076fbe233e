// The names that TeX has for signs.

/** `a b c` and `1 2 3` to {a: "1", b: "2", c: "3"}. */
function table(names, signs) {
  const found = signs.split(" ");
  return Object.fromEntries(names.split(" ").map((name, index) => [name, found[index]]));
}

export const SYMBOLS = {
  ...table(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi varpi rho varrho sigma varsigma tau upsilon phi varphi chi psi omega",
    "α β γ δ ϵ ε ζ η θ ϑ ι κ λ μ ν ξ π ϖ ρ ϱ σ ς τ υ ϕ φ χ ψ ω",
  ),
  ...table("Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega", "Γ Δ Θ Λ Ξ Π Σ Υ Φ Ψ Ω"),
  ...table(
    "times cdot div pm mp ast star circ bullet oplus otimes odot cup cap setminus wedge vee land lor neg lnot dagger",
    "× ⋅ ÷ ± ∓ ∗ ⋆ ∘ ∙ ⊕ ⊗ ⊙ ∪ ∩ ∖ ∧ ∨ ∧ ∨ ¬ ¬ †",
  ),
  ...table(
    "le leq ge geq lt gt ne neq equiv approx sim simeq cong propto ll gg prec succ in notin ni subset subseteq supset supseteq mid parallel perp models vdash",
    "≤ ≤ ≥ ≥ < > ≠ ≠ ≡ ≈ ∼ ≃ ≅ ∝ ≪ ≫ ≺ ≻ ∈ ∉ ∋ ⊂ ⊆ ⊃ ⊇ ∣ ∥ ⟂ ⊨ ⊢",
  ),
  ...table(
    "to rightarrow leftarrow leftrightarrow Rightarrow Leftarrow Leftrightarrow implies impliedby iff mapsto longrightarrow Longrightarrow uparrow downarrow gets hookrightarrow rightharpoonup",
    "→ → ← ↔ ⇒ ⇐ ⇔ ⟹ ⟸ ⟺ ↦ ⟶ ⟹ ↑ ↓ ← ↪ ⇀",
  ),
  ...table(
    "infty partial nabla forall exists nexists emptyset varnothing ell hbar Re Im aleph angle triangle square blacksquare Box therefore because prime degree",
    "∞ ∂ ∇ ∀ ∃ ∄ ∅ ∅ ℓ ℏ ℜ ℑ ℵ ∠ △ □ ■ □ ∴ ∵ ′ °",
  ),
  ...table(
    "ldots dots cdots vdots ddots dotsc dotsb colon langle rangle lfloor rfloor lceil rceil lvert rvert lVert rVert vert Vert",
    "… … ⋯ ⋮ ⋱ … ⋯ : ⟨ ⟩ ⌊ ⌋ ⌈ ⌉ | | ‖ ‖ | ‖",
  ),
  "{": "{",
  "}": "}",
  "%": "%",
  $: "$",
  "#": "#",
  "&": "&",
  _: "_",
  "|": "‖",
  backslash: "\\",
  checkmark: "✓",
};

export const LARGE = table(
  "sum prod coprod int iint iiint oint bigcup bigcap bigoplus bigotimes bigvee bigwedge",
  "∑ ∏ ∐ ∫ ∬ ∭ ∮ ⋃ ⋂ ⨁ ⨂ ⋁ ⋀",
);

export const FUNCTIONS = new Set(
  "log ln lg exp sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh det dim ker deg gcd lim limsup liminf max min sup inf arg argmax argmin Pr mod bmod hom tr".split(
    " ",
  ),
);

export const SPACES = {
  ",": "0.167em",
  ":": "0.222em",
  ";": "0.278em",
  "!": "-0.167em",
  " ": "0.333em",
  quad: "1em",
  qquad: "2em",
  enspace: "0.5em",
  thinspace: "0.167em",
};

export const ACCENTS = {
  hat: "^",
  widehat: "^",
  bar: "¯",
  overline: "¯",
  vec: "→",
  tilde: "~",
  widetilde: "~",
  dot: "˙",
  ddot: "¨",
  underline: "_",
  overbrace: "⏞",
  underbrace: "⏟",
  overrightarrow: "→",
};

export const DELIMITERS = {
  "{": "{",
  "}": "}",
  "|": "‖",
  langle: "⟨",
  rangle: "⟩",
  lfloor: "⌊",
  rfloor: "⌋",
  lceil: "⌈",
  rceil: "⌉",
  lvert: "|",
  rvert: "|",
  lVert: "‖",
  rVert: "‖",
  vert: "|",
  Vert: "‖",
  lbrace: "{",
  rbrace: "}",
  lbrack: "[",
  rbrack: "]",
};

export const STYLES = {
  mathrm: "normal",
  mathbf: "bold",
  boldsymbol: "bold",
  bm: "bold",
  mathbb: "double",
  mathcal: "script",
  mathscr: "script",
  mathfrak: "fraktur",
  mathit: "italic",
  mathsf: "normal",
  mathtt: "normal",
};

const PLANES = {
  bold: [0x1d400, 0x1d41a, 0x1d7ce],
  double: [0x1d538, 0x1d552, 0x1d7d8],
  script: [0x1d49c, 0x1d4b6],
  fraktur: [0x1d504, 0x1d51e],
};
/** Letters that had a place of their own before the planes were made. */
const APART = {
  double: { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" },
  script: { B: "ℬ", E: "ℰ", F: "ℱ", H: "ℋ", I: "ℐ", L: "ℒ", M: "ℳ", R: "ℛ", e: "ℯ", g: "ℊ", o: "ℴ" },
  fraktur: { C: "ℭ", H: "ℌ", I: "ℑ", R: "ℜ", Z: "ℨ" },
};

/** Letters and digits in another style. */
export function styled(text, style) {
  const plane = PLANES[style];
  if (!plane) return text;
  return [...text]
    .map((char) => {
      const apart = APART[style]?.[char];
      if (apart) return apart;
      const start = /[A-Z]/.test(char)
        ? ["A", plane[0]]
        : /[a-z]/.test(char)
          ? ["a", plane[1]]
          : /\d/.test(char) && plane[2]
            ? ["0", plane[2]]
            : null;
      return start ? String.fromCodePoint(start[1] + char.charCodeAt(0) - start[0].charCodeAt(0)) : char;
    })
    .join("");
}
