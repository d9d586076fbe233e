// Choices that are settings.

import { h } from "./h.js";

/** A select that shows a setting and changes it. */
export function choiceOf(settings, name, options, props = {}) {
  const change = () => settings.set(name, select.value);
  const select = h(
    "select",
    { ...props, on: { change } },
    options.map(([value, label]) => h("option", { value }, label)),
  );
  select.value = settings.get(name);
  settings.addEventListener("change", (event) => event.detail === name && (select.value = settings.get(name)));
  return select;
}
