// The list of conversations.

import { textOf } from "../chat/tree.js";
import { button, iconButton } from "./button.js";
import { h } from "./h.js";
import { icon, mark } from "./icons.js";
import { toast } from "./notices.js";
import { exportAll, importFrom } from "./transfer.js";

const DAY_MS = 86_400_000;

export class Sidebar {
  #narrow = matchMedia("(max-width: 60rem)");

  constructor(app, place, scrim) {
    Object.assign(this, { app, place, scrim });
    this.filter = h("input", {
      type: "search",
      class: "field",
      placeholder: "Search",
      "aria-label": "Search conversations",
      on: { input: () => this.#draw() },
    });
    this.list = h("div", { class: "conversations" });
    const create = h(
      "button",
      { type: "button", class: "button new", on: { click: () => this.#new() } },
      icon("plus"),
      "New conversation",
    );
    const foot = h(
      "footer",
      { class: "sidebar-foot" },
      button("Export", () => exportAll(app), { class: "button small" }),
      button("Import", () => importFrom(app), { class: "button small" }),
      iconButton("close", "Close", () => this.toggle(false), { class: "icon-button on-phone" }),
    );
    place.append(
      h("header", { class: "brand" }, mark(), "Tidemill"),
      create,
      h("div", { class: "search" }, icon("search"), this.filter),
      this.list,
      foot,
    );
    scrim.addEventListener("click", () => this.toggle(false));
    app.addEventListener("list", () => this.#draw());
    app.addEventListener("opened", () => {
      this.#draw();
      if (this.#narrow.matches) this.toggle(false);
    });
    this.#narrow.addEventListener("change", () => this.#apply(!this.#narrow.matches && app.settings.get("sidebar")));
    this.#apply(!this.#narrow.matches && app.settings.get("sidebar"));
  }

  get isOpen() {
    return !this.place.hidden;
  }

  /** Whether it covers the conversation. */
  get isOver() {
    return this.isOpen && this.#narrow.matches;
  }

  toggle(isOpen = !this.isOpen) {
    if (!this.#narrow.matches) this.app.settings.set("sidebar", isOpen);
    this.#apply(isOpen);
  }

  search() {
    this.toggle(true);
    this.filter.select();
  }

  #apply(isOpen) {
    this.place.hidden = !isOpen;
    this.scrim.hidden = !(isOpen && this.#narrow.matches);
  }

  #new() {
    this.app.open("");
  }

  #draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    const found = [...this.app.conversations.values()]
      .filter((conversation) => !wanted || matches(conversation, wanted))
      .sort((a, b) => b.updated - a.updated);
    const groups = groupBy(found, age);
    const sections = [...groups].map(([name, conversations]) =>
      h(
        "section",
        {},
        h("h2", {}, name),
        h(
          "ul",
          {},
          conversations.map((conversation) => this.#item(conversation)),
        ),
      ),
    );
    const nothing = wanted ? "Nothing found." : "Conversations are kept in this browser only.";
    this.list.replaceChildren(...(sections.length ? sections : [h("p", { class: "hint" }, nothing)]));
  }

  #item(conversation) {
    const { id } = conversation;
    const isCurrent = id === this.app.current?.id;
    const title = h("span", { class: "line" }, conversation.title || "Untitled");
    const click = () => {
      this.app.open(id);
      if (this.isOver) this.toggle(false);
    };
    const on = { click, dblclick: () => this.#rename(item, conversation) };
    const open = h(
      "button",
      { type: "button", class: "conversation", "aria-current": isCurrent ? "page" : null, on },
      title,
    );
    const item = h(
      "li",
      {},
      open,
      iconButton("edit", `Rename ${conversation.title}`, () => this.#rename(item, conversation)),
      iconButton("trash", `Remove ${conversation.title}`, () => this.#remove(conversation)),
    );
    return item;
  }

  #rename(item, conversation) {
    let isDone = false;
    const end = (isMeant) => {
      if (isDone) return;
      isDone = true;
      if (isMeant) this.app.rename(conversation.id, field.value);
      else this.#draw();
    };
    const keydown = (event) => {
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        end(false);
      }
    };
    const field = h("input", {
      class: "field",
      "aria-label": "Title",
      value: conversation.title,
      on: { keydown, blur: () => end(true) },
    });
    item.replaceChildren(field);
    field.select();
  }

  #remove(conversation) {
    const bringBack = this.app.removeConversation(conversation.id);
    toast("Conversation removed.", "Undo", bringBack);
  }
}

function matches(conversation, wanted) {
  const texts = Object.values(conversation.nodes).map(textOf);
  return [conversation.title, ...texts].some((text) => text.toLowerCase().includes(wanted));
}

function age({ updated }) {
  const today = new Date().setHours(0, 0, 0, 0);
  if (updated >= today) return "Today";
  if (updated >= today - DAY_MS) return "Yesterday";
  if (updated >= today - 7 * DAY_MS) return "Last week";
  return "Earlier";
}

function groupBy(items, keyOf) {
  const groups = new Map();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}
