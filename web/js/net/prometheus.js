// Figures as Prometheus writes them.

/**
 * Reads a page of figures. Samples of the same name (of several models) are added up; histograms are left out but for
 * their sums and counts.
 * @param {string} page
 * @returns {Map<string, number>}
 */
export function readFigures(page) {
  const figures = new Map();
  for (const line of page.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{[^]*\})?\s+(\S+)/.exec(line);
    if (!found || found[1].endsWith("_bucket")) continue;
    const value = Number(found[2]);
    if (Number.isFinite(value)) figures.set(found[1], (figures.get(found[1]) ?? 0) + value);
  }
  return figures;
}

/**
 * A value of a label of the first sample of this name.
 * @returns {string | undefined}
 */
export function label(page, name, key) {
  const line = page.split("\n").find((line) => line.startsWith(`${name}{`));
  return line && new RegExp(`[{,]${key}="([^"]*)"`).exec(line)?.[1];
}
