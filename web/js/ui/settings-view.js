// Everything that can be set.

import { readTools } from "../chat/request.js";
import { bounds, number } from "../store/settings.js";
import { button } from "./button.js";
import { h, setText } from "./h.js";
import { choiceOf } from "./select.js";

const THEMES = [
  ["", "As the system"],
  ["light", "Light"],
  ["dark", "Dark"],
];
const PRESETS = [
  ["", "Automatic: as the mode needs"],
  ["thinking", "Thinking: general"],
  ["coding", "Thinking: precise coding"],
  ["instruct", "No thinking: general"],
  ["reasoning", "No thinking: reasoning"],
];
/** Name, label, step, what it does. */
const NUMBERS = [
  ["temperature", "Temperature", 0.05, "Higher is more varied; 0 always takes the likeliest"],
  ["top_p", "Top-p", 0.01, "Only the likeliest that together reach this probability"],
  ["top_k", "Top-k", 1, "Only so many of the likeliest; 0 for all"],
  ["min_p", "Min-p", 0.01, "Only those at least so likely, measured by the likeliest"],
  ["presence_penalty", "Presence penalty", 0.1, "Against what was said before"],
  ["repeat_penalty", "Repeat penalty", 0.05, "Against repetition; 1 for none"],
  ["max_tokens", "Longest answer", 1, "In tokens"],
  ["seed", "Seed", 1, "The same number gives the same answer"],
];
const EXAMPLE = [
  {
    name: "price_of",
    description: "Get the price of a thing.",
    parameters: { type: "object", properties: { thing: { type: "string" } }, required: ["thing"] },
  },
];

export class SettingsView {
  constructor(app) {
    this.app = app;
    this.fields = new Map();
    this.element = h(
      "div",
      { class: "settings" },
      this.#conversation(),
      this.#sampling(),
      group(
        "Connection",
        labelled("API key", this.#key(), "Kept in this browser. Only needed if the server asks for one."),
      ),
      group("Appearance", labelled("Theme", choiceOf(app.settings, "theme", THEMES, { class: "field" }))),
      this.#shortcuts(),
    );
    app.addEventListener("opened", () => this.#drawFrame());
    app.server.addEventListener("change", () => this.#drawDefaults());
  }

  show() {
    this.#drawFrame();
    this.#drawDefaults();
  }

  hide() {}

  #conversation() {
    const set = (name) => (event) => this.app.setFrame(name, event.target.value);
    this.system = h("textarea", {
      class: "field",
      rows: "3",
      placeholder: "Such as: answer briefly, in German.",
      on: { input: set("system") },
    });
    this.tools = h("textarea", {
      class: "field mono",
      rows: "5",
      spellcheck: "false",
      placeholder: "A JSON list of functions",
      on: { input: set("tools") },
    });
    this.tools.addEventListener("input", () => this.#judgeTools());
    this.fault = h("p", { class: "fault", role: "alert" });
    const fill = () => {
      this.tools.value = JSON.stringify(EXAMPLE, null, 2);
      this.tools.dispatchEvent(new Event("input"));
    };
    return group(
      "Conversation",
      labelled("System prompt", this.system, "Of this conversation and of new ones."),
      labelled("Tools", this.tools, "The model may call them; you give the results."),
      this.fault,
      button("Put in an example", fill, { class: "button small" }),
    );
  }

  #sampling() {
    const rows = NUMBERS.map(([name, label, step, hint]) => labelled(label, this.#number(name, step), hint, "row"));
    const clear = () => NUMBERS.forEach(([name]) => this.app.settings.set(name, null));
    return group(
      "Sampling",
      labelled("Preset", choiceOf(this.app.settings, "preset", PRESETS, { class: "field" })),
      ...rows,
      button("Leave all to the preset", clear, { class: "button small" }),
    );
  }

  #number(name, step) {
    const { settings } = this.app;
    const [least, most] = bounds(name);
    const change = () => {
      settings.set(name, number(name, field.value));
      field.value = settings.get(name) ?? "";
    };
    const field = h("input", {
      type: "number",
      class: "field number",
      min: least,
      max: most,
      step,
      inputmode: "decimal",
      placeholder: "preset",
      value: settings.get(name) ?? "",
      on: { change },
    });
    settings.addEventListener("change", (event) => event.detail === name && (field.value = settings.get(name) ?? ""));
    this.fields.set(name, field);
    return field;
  }

  #key() {
    const { settings, server } = this.app;
    const change = () => {
      settings.set("key", key.value.trim());
      server.look();
    };
    const key = h("input", {
      type: "password",
      class: "field",
      autocomplete: "off",
      placeholder: "None",
      value: settings.get("key"),
      on: { change },
    });
    settings.addEventListener("change", (event) => event.detail === "key" && (key.value = settings.get("key")));
    const submit = (event) => {
      event.preventDefault();
      change();
    };
    // Browsers want fields for secrets to stand in forms.
    return h("form", { on: { submit } }, key);
  }

  #shortcuts() {
    const rows = [
      ["Enter", "Send"],
      ["Shift Enter", "New line"],
      ["Esc", "Stop, or close"],
      ["↑", "Edit the last message, when nothing is typed"],
      ["/", "Write"],
      ["Ctrl K", "Search conversations"],
      ["Ctrl Shift O", "New conversation"],
      ["Ctrl ,", "Settings"],
      ["Ctrl B", "List of conversations"],
    ].map(([keys, what]) => [
      h(
        "dt",
        {},
        keys.split(" ").map((key) => h("kbd", {}, key)),
      ),
      h("dd", {}, what),
    ]);
    return group("Keys", h("dl", { class: "keys" }, rows.flat()));
  }

  #drawFrame() {
    const { system, tools } = this.app.current ?? this.app.settings.all;
    if (this.system.value !== system) this.system.value = system;
    if (this.tools.value !== tools) this.tools.value = tools;
    this.#judgeTools();
  }

  #judgeTools() {
    setText(this.fault, readTools(this.tools.value).fault);
  }

  /** What the server does where nothing is set. */
  #drawDefaults() {
    const params = this.app.server.props?.default_generation_settings?.params;
    const isCalm = this.app.settings.get("effort") === "none";
    const known = params?.[isCalm ? "instruct" : "thinking"] ?? params ?? {};
    for (const [name, field] of this.fields) {
      const value = this.app.settings.get("preset") ? undefined : known[name];
      field.placeholder =
        typeof value === "number"
          ? String(Number(value.toFixed(4)))
          : name === "max_tokens"
            ? "none"
            : name === "seed"
              ? "random"
              : "preset";
    }
  }
}

function group(title, ...kids) {
  return h("section", { class: "group" }, h("h2", {}, title), ...kids);
}

function labelled(label, field, hint, kind = "") {
  return h(
    "label",
    { class: `labelled ${kind}`, title: kind ? hint : null },
    h("span", { class: "label" }, label),
    field,
    hint && !kind && h("span", { class: "hint" }, hint),
  );
}
