// The bar at the top: title, model, and the ways to everything else.

import { Standing } from "../chat/server.js";
import { iconButton } from "./button.js";
import { h, setText } from "./h.js";
import { isDark } from "./theme.js";
import { icon } from "./icons.js";

export class Bar {
  constructor(app, place, { sidebar, panel }) {
    this.app = app;
    this.title = h("h1", { class: "title line" });
    this.dot = h("span", { class: "dot", "aria-hidden": "true" });
    this.name = h("span", { class: "model-name line" });
    const change = () => app.settings.set("model", this.models.value);
    this.models = h("select", { class: "quiet", "aria-label": "Model", hidden: true, on: { change } });
    this.theme = iconButton("moon", "Dark", () => this.#switchTheme(), { data: { act: "theme" } });
    place.append(
      iconButton("menu", "Conversations", () => sidebar.toggle(), { data: { act: "sidebar" } }),
      this.title,
      h("span", { class: "model" }, this.dot, this.name, this.models),
      this.theme,
      iconButton("gauge", "Server", () => panel.toggle("server"), { data: { act: "server" } }),
      iconButton("settings", "Settings", () => panel.toggle("settings"), { data: { act: "settings" } }),
      iconButton("plus", "New conversation", () => app.open(""), { class: "icon-button on-phone" }),
    );
    for (const name of ["opened", "list"]) app.addEventListener(name, () => this.#drawTitle());
    app.server.addEventListener("change", () => this.#drawModels());
    app.settings.addEventListener("change", (event) => {
      if (event.detail === "theme") this.#drawTheme();
      if (event.detail === "model") {
        this.#drawModels();
        app.server.look();
      }
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#drawTheme());
    this.#drawTheme();
  }

  #drawTitle() {
    const { title } = this.app.current ?? {};
    setText(this.title, title || "New conversation");
    document.title = title ? `${title} · Tidemill` : "Tidemill";
  }

  #drawModels() {
    const { models, standing } = this.app.server;
    const chosen = this.app.server.model();
    const words = { [Standing.away]: "Server not reachable", [Standing.key]: "Key needed", [Standing.unknown]: "…" };
    this.dot.dataset.standing = standing;
    const hasChoice = standing === Standing.ready && models.length > 1;
    this.models.hidden = !hasChoice;
    this.name.hidden = hasChoice;
    setText(this.name, words[standing] ?? `${chosen?.id ?? ""}${standOf(chosen?.status)}`);
    if (!hasChoice) return;
    const shown = JSON.stringify(models.map(({ id, status }) => [id, standOf(status)]));
    if (this.models.dataset.shown !== shown) {
      this.models.dataset.shown = shown;
      this.models.replaceChildren(
        ...models.map(({ id, status }) => h("option", { value: id }, `${id}${standOf(status)}`)),
      );
    }
    this.models.value = chosen.id;
  }

  #switchTheme() {
    this.app.settings.set("theme", isDark(this.app.settings) ? "light" : "dark");
  }

  #drawTheme() {
    const isNight = isDark(this.app.settings);
    this.theme.replaceChildren(icon(isNight ? "sun" : "moon"));
    this.theme.title = isNight ? "Light" : "Dark";
    this.theme.setAttribute("aria-label", this.theme.title);
  }
}

/** What is to be known of a model before it is chosen. */
function standOf(status) {
  return { loading: " (loading)", failed: " (failed to load)" }[status?.value] ?? "";
}
