// What a reader has set, kept in the browser.

const PLACE = "tidemill.settings";
const NUMBERS = {
  temperature: [0, 2],
  top_p: [0, 1],
  top_k: [0, 1000],
  min_p: [0, 1],
  presence_penalty: [-2, 2],
  repeat_penalty: [0.5, 2],
  seed: [0, 2 ** 32 - 1],
  max_tokens: [1, 1_000_000],
};
const CHOICES = {
  theme: ["", "light", "dark"],
  preset: ["", "thinking", "coding", "instruct", "reasoning"],
  effort: ["", "none", "low", "medium", "high"],
};
const TEXTS = ["model", "key", "system", "tools"];

/** Settings of someone who has set nothing: numbers are null where the server decides. */
export function defaults() {
  const settings = { sidebar: true, panel: "" };
  for (const name of Object.keys(NUMBERS)) settings[name] = null;
  for (const name of [...Object.keys(CHOICES), ...TEXTS]) settings[name] = "";
  return settings;
}

/** Settings from whatever was kept; what makes no sense is as if it had not been set. */
export function sound(kept) {
  const settings = defaults();
  for (const [name, value] of Object.entries(kept ?? {})) {
    if (!(name in settings)) continue;
    if (name in NUMBERS) settings[name] = number(name, value);
    else if (name in CHOICES) settings[name] = CHOICES[name].includes(value) ? value : "";
    else if (typeof value === typeof settings[name]) settings[name] = value;
  }
  return settings;
}

/** A number within what the setting allows, or null for none. */
export function number(name, value) {
  const wanted = typeof value === "string" && value.trim() === "" ? NaN : Number(value ?? NaN);
  if (!Number.isFinite(wanted)) return null;
  const [least, most] = NUMBERS[name];
  return Math.min(most, Math.max(least, wanted));
}

/** The least and most of a number. */
export function bounds(name) {
  return NUMBERS[name];
}

/** Settings that tell when they change. */
export class Settings extends EventTarget {
  #values;

  /** @param {Storage | null} storage null where the browser keeps nothing */
  constructor(storage) {
    super();
    this.storage = storage;
    this.#values = sound(readJson(storage, PLACE));
  }

  /** All of them, to be read only. */
  get all() {
    return this.#values;
  }

  get(name) {
    return this.#values[name];
  }

  set(name, value) {
    const next = sound({ ...this.#values, [name]: value });
    if (next[name] === this.#values[name]) return;
    this.#values = next;
    write(this.storage, PLACE, JSON.stringify(next));
    this.dispatchEvent(new CustomEvent("change", { detail: name }));
  }
}

/** What was typed and not sent yet, by conversation. */
export class Drafts {
  constructor(storage) {
    this.storage = storage;
  }

  get(id) {
    return readText(this.storage, `tidemill.draft.${id}`) ?? "";
  }

  set(id, text) {
    const place = `tidemill.draft.${id}`;
    if (text) write(this.storage, place, text);
    else {
      try {
        this.storage?.removeItem(place);
      } catch {
        // Then there is none.
      }
    }
  }
}

/** The browser's storage, or null where it may not be used. */
export function browserStorage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

function readText(storage, place) {
  try {
    return storage?.getItem(place) ?? null;
  } catch {
    return null;
  }
}

function readJson(storage, place) {
  try {
    const value = JSON.parse(readText(storage, place));
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

function write(storage, place, text) {
  try {
    storage?.setItem(place, text);
  } catch {
    // Full or forbidden: the page works on without it.
  }
}
