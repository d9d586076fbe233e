// Figures as Prometheus writes them.

/**
 * Reads a page of figures. Histograms are left out but for their sums and counts.
 * @param {string} page
 * @param {string} model only figures of this model, and those of none
 * @returns {Map<string, number>}
 */
export function readFigures(page, model) {
  const figures = new Map();
  for (const line of page.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{([^]*)\})?\s+(\S+)/.exec(line);
    if (!found || found[1].endsWith("_bucket") || !isAbout(found[2] ?? "", model)) continue;
    const value = Number(found[3]);
    if (Number.isFinite(value)) figures.set(found[1], value);
  }
  return figures;
}

function isAbout(labels, model) {
  const escaped = model.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
  return !/(^|,)model_name="/.test(labels) || `,${labels},`.includes(`,model_name="${escaped}",`);
}

/**
 * A value of a label of the first sample of this name.
 * @returns {string | undefined}
 */
export function label(page, name, key) {
  const line = page.split("\n").find((line) => line.startsWith(`${name}{`));
  return line && new RegExp(`[{,]${key}="([^"]*)"`).exec(line)?.[1];
}
