// The page's icons: strokes on a grid of 20.

const PATHS = {
  menu: "M3 5h14M3 10h14M3 15h9",
  plus: "M10 4v12M4 10h12",
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  copy: "M7 7h9v9H7zM4 13V4h9",
  check: "M4 10.500l4 4 8-9",
  edit: "M4 16h3l8.500-8.500-3-3L4 13zM11 6l3 3",
  again: "M16 10a6 6 0 1 1-1.800-4.300M16 3v3.500h-3.500",
  go: "M5 4l6 6-6 6M11 4l6 6-6 6",
  trash: "M4 6h12M8 6V4h4v2M6 6l.7 10h6.600L14 6",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  down: "M5 8l5 5 5-5",
  settings: "M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4",
  gauge: "M3.500 14a7 7 0 1 1 13 0M10 12l3.500-4",
  close: "M5 5l10 10M15 5L5 15",
  image: "M3 4h14v12H3zM3 13l4-4 4 4 2-2 4 4M13 8h.01",
  tool: "M12.500 3.500a4 4 0 0 0-4.600 5.600L3 14l3 3 4.900-4.900a4 4 0 0 0 5.600-4.600L14 10l-2.500-.5L11 7z",
  search: "M9 4a5 5 0 1 1 0 10A5 5 0 0 1 9 4zM13 13l4 4",
  sun: "M10 7a3 3 0 1 1 0 6 3 3 0 0 1 0-6zM10 2v2M10 16v2M2 10h2M16 10h2M4.300 4.300l1.400 1.400M14.300 14.300l1.400 1.400M4.300 15.700l1.400-1.400M14.300 5.700l1.400-1.400",
  moon: "M16 12A7 7 0 0 1 8 4a6.500 6.500 0 1 0 8 8z",
  export: "M10 12V3M6 7l4-4 4 4M4 12v5h12v-5",
  more: "M5 10h.01M10 10h.01M15 10h.01",
  key: "M7 9a3.500 3.500 0 1 1 0 4.500A3.500 3.500 0 0 1 7 9zM10 11h7v3M14 11v2",
  thought: "M10 3a5 5 0 0 0-3 9v2h6v-2a5 5 0 0 0-3-9zM8 17h4",
};
const SVG = "http://www.w3.org/2000/svg";

/** An icon; its meaning is told by what it stands in. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** The page's mark: three waves. */
export function mark() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "mark");
  svg.setAttribute("aria-hidden", "true");
  for (const [y, opacity] of [
    [7, 1],
    [12, 0.7],
    [17, 0.4],
  ]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", `M3 ${y}c3-3 6-3 9 0s6 3 9 0`);
    path.setAttribute("opacity", String(opacity));
    svg.append(path);
  }
  return svg;
}
