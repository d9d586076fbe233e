// Where messages are written.

import { path } from "../chat/tree.js";
import { iconButton } from "./button.js";
import { growing } from "./growing.js";
import { count, h, setText } from "./h.js";
import { icon } from "./icons.js";
import { Images } from "./images.js";
import { toast } from "./notices.js";
import { choiceOf } from "./select.js";

const EFFORTS = [
  ["", "Thinking: model's way"],
  ["none", "No thinking"],
  ["low", "Thinking: short"],
  ["medium", "Thinking: longer"],
  ["high", "Thinking: unbounded"],
];

export class Composer {
  constructor(app, place) {
    this.app = app;
    this.field = growing(
      h("textarea", {
        id: "prompt",
        class: "prompt",
        rows: "1",
        placeholder: "Write a message",
        "aria-label": "Message",
        enterkeyhint: "send",
        on: { keydown: (event) => this.#key(event), input: () => this.#typed() },
      }),
    );
    this.images = new Images(() => this.#update());
    this.attach = iconButton("image", "Attach an image", () => this.images.choose(), {
      hidden: true,
      data: { act: "attach" },
    });
    const effort = choiceOf(app.settings, "effort", EFFORTS, { class: "quiet", "aria-label": "Thinking" });
    this.room = h("span", { class: "room" });
    this.send = h("button", { class: "send", "aria-label": "Send", title: "Send" }, icon("send"));
    const tools = h(
      "div",
      { class: "composer-tools" },
      this.attach,
      effort,
      h("span", { class: "space" }),
      this.room,
      this.send,
    );
    const submit = (event) => {
      event.preventDefault();
      this.#submit();
    };
    const box = h("form", { class: "composer", on: { submit } }, this.images.element, this.field, tools);
    place.append(h("div", { class: "column" }, box));
    this.images.takeFrom(box, this.field, () => app.server.sees());
    app.addEventListener("opened", () => this.#opened());
    for (const name of ["path", "answer"]) app.addEventListener(name, () => this.#update());
    app.server.addEventListener("change", () => this.#update());
    app.settings.addEventListener("change", () => this.#update());
  }

  focus() {
    // On phones the keyboard would cover the page.
    if (matchMedia("(hover: hover)").matches) this.field.focus();
  }

  #opened() {
    this.field.value = this.app.drafts.get(this.#place());
    this.images.clear();
    this.field.fit();
    this.#update();
    this.focus();
  }

  /** What was typed into a conversation that is not kept yet belongs to the next new one. */
  #place() {
    const { current, conversations } = this.app;
    return conversations.has(current.id) ? current.id : "new";
  }

  #typed() {
    this.app.drafts.set(this.#place(), this.field.value);
    this.#update();
  }

  #key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      // A newline is easier reached on a phone than a key with shift.
      if (!this.app.running()) this.#submit();
    }
  }

  #submit() {
    if (this.app.running()) {
      this.app.stop();
      return;
    }
    const text = this.field.value.trim();
    const images = this.images.taken();
    if (!text && !images.length) return;
    if (this.#awaitsResults()) {
      toast("The model waits for the results of its calls: send those first.");
      return;
    }
    const place = this.#place();
    this.app.send(text, images);
    this.app.drafts.set(place, "");
    this.field.value = "";
    this.images.clear();
    this.field.fit();
    this.#update();
  }

  #awaitsResults() {
    return path(this.app.current).at(-1)?.calls?.length > 0;
  }

  #update() {
    const isRunning = Boolean(this.app.running());
    const label = isRunning ? "Stop" : "Send";
    if (this.send.title !== label) {
      this.send.title = label;
      this.send.setAttribute("aria-label", label);
      this.send.classList.toggle("stop", isRunning);
      this.send.replaceChildren(icon(isRunning ? "stop" : "send"));
    }
    this.send.disabled = !isRunning && !this.field.value.trim() && !this.images.taken().length;
    this.attach.hidden = !this.app.server.sees();
    const used = usedTokens(this.app.current);
    const context = this.app.server.context();
    setText(this.room, used && context ? `${count(used)} / ${count(context)}` : "");
    this.room.title = used ? "Tokens of this conversation, and of what the model can hold" : "";
    this.room.classList.toggle("tight", used > 0.85 * context);
  }
}

/** Tokens of the conversation after its last answer that told them. */
export function usedTokens(conversation) {
  const told = path(conversation).findLast((node) => node.usage);
  return told?.usage.total_tokens ?? 0;
}
