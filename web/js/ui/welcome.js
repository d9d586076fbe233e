// What is shown before the first message.

import { count, h } from "./h.js";
import { mark } from "./icons.js";

const GENERAL = [
  "Explain how a tide mill works, for a curious child",
  "Write a shell one-liner that finds the ten largest files below a folder",
  "Compare three ways to keep a promise to oneself, in a table",
];
/** What the model inside the program has learnt. */
const TINY = [
  "What is 17 + 25?",
  "Tell a story about a fox and a lantern.",
  "Say this again: button duck east red bear cat",
];

export function welcome(app) {
  const model = app.server.model();
  const facts = model ? `${model.id} · context of ${count(model.context_length ?? 0)} tokens` : "";
  const prompts = model?.id === "tidemill-tiny" ? TINY : GENERAL;
  const offers = prompts.map((text) =>
    h(
      "li",
      {},
      h("button", { type: "button", class: "offer", on: { click: () => !app.running() && app.send(text) } }, text),
    ),
  );
  return h(
    "div",
    { class: "welcome" },
    mark(),
    h("h2", {}, "What shall we work on?"),
    h("p", { class: "facts" }, facts),
    h("ul", { class: "offers" }, offers),
  );
}
