// The panel at the side: settings, or the server.

import { iconButton } from "./button.js";
import { h } from "./h.js";
import { ServerView } from "./server-view.js";
import { SettingsView } from "./settings-view.js";

const NAMES = { settings: "Settings", server: "Server" };

export class Panel {
  constructor(app, place) {
    this.app = app;
    this.place = place;
    this.views = { settings: new SettingsView(app), server: new ServerView(app) };
    this.tabs = Object.entries(NAMES).map(([name, label]) =>
      h(
        "button",
        {
          type: "button",
          role: "tab",
          id: `tab-${name}`,
          "aria-controls": "panel-body",
          data: { name },
          on: { click: () => this.show(name) },
        },
        label,
      ),
    );
    this.body = h("div", { id: "panel-body", class: "panel-body", role: "tabpanel", tabindex: "0" });
    place.append(
      h(
        "header",
        { class: "panel-head" },
        h("div", { role: "tablist", class: "tabs", "aria-label": "Panel" }, this.tabs),
        iconButton("close", "Close", () => this.close()),
      ),
      this.body,
    );
    if (!matchMedia("(max-width: 75rem)").matches) this.show(app.settings.get("panel"));
  }

  get isOpen() {
    return !this.place.hidden;
  }

  toggle(name) {
    if (this.isOpen && this.shown === name) this.close();
    else this.show(name);
  }

  show(name) {
    const view = this.views[name];
    if (!view) return;
    if (this.shown !== name) {
      this.views[this.shown]?.hide();
      this.body.replaceChildren(view.element);
      this.body.setAttribute("aria-labelledby", `tab-${name}`);
      for (const tab of this.tabs) tab.setAttribute("aria-selected", String(tab.dataset.name === name));
    }
    this.shown = name;
    this.place.hidden = false;
    this.app.settings.set("panel", name);
    view.show();
  }

  close() {
    this.views[this.shown]?.hide();
    this.place.hidden = true;
    this.app.settings.set("panel", "");
  }
}
