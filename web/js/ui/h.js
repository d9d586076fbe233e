// Elements from descriptions. Texts become text nodes: nothing is ever parsed as HTML.

/**
 * @param {string} tag
 * @param {object} props `class`, `on` ({event: listener}), `data`; booleans set or remove an attribute
 * @param {...(Node | string | null | false | undefined | Array)} kids
 */
export function h(tag, props = {}, ...kids) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "data") {
      Object.assign(element.dataset, value);
    } else if (name === "value") {
      element.value = value;
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...kids.flat().filter((kid) => kid !== null && kid !== false && kid !== undefined));
  return element;
}

/** Sets a text only where it differs, so that screen readers and selections are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A whole number as a reader writes it. */
export function count(number) {
  return Math.round(number).toLocaleString("en");
}

/** So many of something: `1 answer`, `2 answers`. */
export function several(number, what) {
  return `${count(number)} ${what}${Math.round(number) === 1 ? "" : "s"}`;
}

/** Bytes in a unit that fits. */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${number >= 100 || unit === 0 ? Math.round(number) : number.toFixed(1)} ${units[unit]}`;
}

/** Milliseconds as seconds or minutes. */
export function duration(ms) {
  if (ms < 950) return `${Math.max(10, Math.round(ms / 10) * 10)} ms`;
  if (ms < 59_500) return `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
