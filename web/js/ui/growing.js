// Text fields as high as their text.

/** Makes a textarea grow with its text, up to what its style allows. */
export function growing(area) {
  area.fit = () => {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
  };
  area.addEventListener("input", area.fit);
  return area;
}
