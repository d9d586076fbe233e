// The messages that are shown.

import { isRunning, State } from "../chat/answer.js";
import { path, siblings } from "../chat/tree.js";
import { AssistantMessage } from "./assistant.js";
import { iconButton } from "./button.js";
import { h } from "./h.js";
import { ToolMessage } from "./tool.js";
import { UserMessage } from "./user.js";
import { welcome } from "./welcome.js";

const KINDS = { user: UserMessage, assistant: AssistantMessage, tool: ToolMessage };
/** So near the end a reader follows what comes. */
const NEAR_PX = 80;
/** After so long without a sign it is worth asking whether the model is still being loaded. */
const PATIENCE_MS = 1500;

/** Shows the path through the conversation and keeps it up to date, once a frame at most. */
export class Thread {
  #views = new Map();
  #dirty = new Set();
  #frame = 0;
  #follows = true;
  /** When the answer was asked for that the server was last asked about. */
  #asked = 0;

  constructor(app, place, announcer) {
    Object.assign(this, { app, place, announcer });
    this.column = h("div", { class: "column" });
    this.jump = iconButton("down", "To the latest", () => this.toEnd(), { class: "icon-button jump", hidden: true });
    place.append(this.column, this.jump);
    place.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    app.addEventListener("opened", () => this.#opened());
    app.addEventListener("path", () => this.#path());
    app.addEventListener("answer", (event) => this.#answer(event.detail));
    app.server.addEventListener("change", () => this.#views.size === 0 && this.#path());
    // Times and speeds go on while nothing arrives.
    setInterval(() => this.#tick(), 250);
  }

  /** The view of a message. */
  view(id) {
    return this.#views.get(id);
  }

  toEnd() {
    this.#follows = true;
    this.place.scrollTop = this.place.scrollHeight;
  }

  #opened() {
    this.#views.clear();
    this.#follows = true;
    this.#path();
    this.toEnd();
  }

  #path() {
    const { current } = this.app;
    const nodes = path(current);
    const views = new Map();
    for (const node of nodes) views.set(node.id, this.#views.get(node.id) ?? new KINDS[node.role](this.app, node));
    this.#views = views;
    const shown = [...views.values()].map((view) => view.element);
    if (!shown.length) shown.push(welcome(this.app));
    place(this.column, shown);
    nodes.forEach((node, index) => {
      const among = siblings(current, node.id);
      const branch = { at: among.indexOf(node.id), of: among.length };
      views.get(node.id).update({ branch, isLast: index === nodes.length - 1, next: nodes[index + 1] });
    });
    if (nodes.some(isRunning)) this.#follows = true;
    this.#keepAtEnd();
  }

  #answer(node) {
    if (!this.#views.has(node.id)) return;
    this.#dirty.add(node.id);
    // Hidden pages have no frames.
    if (document.hidden) this.#draw();
    else this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    for (const id of this.#dirty) this.#views.get(id)?.update({});
    for (const id of this.#dirty) this.#announce(this.app.current.nodes[id]);
    this.#dirty.clear();
    this.#keepAtEnd();
  }

  #tick() {
    const running = this.app.running();
    if (!running) return;
    const { answer } = running;
    this.#views.get(answer.id)?.tick(running);
    if (answer.state === State.waiting && Date.now() - answer.asked > PATIENCE_MS && this.#asked !== answer.asked) {
      this.#asked = answer.asked;
      this.app.server.look();
    }
  }

  #announce(node) {
    if (!node) return;
    const words =
      { done: "The answer is complete.", stopped: "Stopped.", failed: node.error?.message }[node.state] ?? "Answering.";
    if (this.announcer.textContent !== words) this.announcer.textContent = words;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.place;
    this.#follows = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    this.jump.hidden = this.#follows;
  }

  #keepAtEnd() {
    if (this.#follows) this.place.scrollTop = this.place.scrollHeight;
  }
}

/** Makes the children of an element be these, moving none that is in its place already. */
function place(parent, children) {
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}
