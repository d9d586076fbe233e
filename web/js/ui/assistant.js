// The model's message: thinking, answer, calls, and what it cost.

import { canContinue, isRunning, State } from "../chat/answer.js";
import { show } from "../markdown/dom.js";
import { LiveMarkdown } from "../markdown/live.js";
import { Branches } from "./branches.js";
import { button, iconButton } from "./button.js";
import { Calls } from "./call.js";
import { copyButton } from "./copy.js";
import { figuresOf } from "./figures.js";
import { duration, h, setText } from "./h.js";
import { Status } from "./status.js";

/** Nobody wants to read how short this was. */
const SHORT_MS = 1000;

export class AssistantMessage {
  #content = new LiveMarkdown();
  #reasoning = new LiveMarkdown();
  #shape = { branch: { at: 0, of: 1 }, isLast: true, next: undefined };
  #drawn = {};

  constructor(app, node) {
    this.app = app;
    this.node = node;
    this.thoughts = h("div", { class: "prose thoughts" });
    this.thinkingWords = h("span", {});
    this.thinking = h(
      "details",
      { class: "fold thinking", hidden: true, on: { toggle: () => this.#drawThoughts() } },
      h("summary", {}, this.thinkingWords),
      this.thoughts,
    );
    this.prose = h("div", { class: "prose" });
    this.calls = new Calls((results) => app.giveResults(node.id, results));
    this.status = new Status();
    this.error = h("div", { class: "error", role: "alert", hidden: true });
    this.figures = h("span", { class: "figures" });
    this.branches = new Branches((by) => app.step(node.id, by));
    this.onward = button("Continue", () => app.goOn(node.id), { class: "button small", data: { act: "continue" } });
    this.foot = h(
      "div",
      { class: "actions" },
      this.branches.element,
      copyButton(() => node.content, "Copy answer"),
      iconButton("again", "Answer again", () => app.again(node.id), { data: { act: "again" } }),
      this.onward,
      this.figures,
    );
    this.element = h(
      "article",
      { class: "message assistant", "aria-label": "Answer" },
      this.thinking,
      this.prose,
      this.calls.element,
      this.status.element,
      this.error,
      this.foot,
    );
  }

  /** Brings everything up to date; `shape` is what has changed around it. */
  update(shape) {
    Object.assign(this.#shape, shape);
    const { node } = this;
    const isLive = isRunning(node);
    const { branch, isLast, next } = this.#shape;
    this.element.setAttribute("aria-busy", String(isLive));
    this.#drawThinking(isLive);
    if (this.#drawn.content !== node.content || this.#drawn.isLive !== isLive) {
      show(this.prose, this.#content.read(node.content, !isLive));
      Object.assign(this.#drawn, { content: node.content, isLive });
    }
    this.calls.update(node.calls, !isLive && isLast && node.calls.length > 0);
    this.status.element.hidden = !isLive;
    if (isLive) this.#drawStatus(this.app.running());
    this.#drawError();
    this.foot.hidden = isLive;
    this.branches.update(branch);
    this.onward.hidden = !canContinue(node) || Boolean(next);
    if (!isLive) setText(this.figures, figuresOf(node));
    this.figures.title = isLive ? "" : figuresOf(node, true);
    this.element.classList.toggle("last", isLast);
  }

  /** Time has passed. */
  tick(generation) {
    this.#drawStatus(generation);
    this.#drawThinking(true);
  }

  #drawStatus(generation) {
    this.status.update(this.node, generation, this.app.server.loading(this.node.model));
  }

  #drawThinking(isLive) {
    const { reasoning, thoughtFor, thinkingSince } = this.node;
    this.thinking.hidden = !reasoning;
    if (!reasoning) return;
    const isThinking = isLive && !thoughtFor;
    this.thinking.classList.toggle("live", isThinking);
    const time = duration(thoughtFor ?? Date.now() - thinkingSince);
    const ended = thoughtFor >= SHORT_MS ? `Thought for ${time}` : "Thought for a moment";
    setText(this.thinkingWords, isThinking ? `Thinking, ${time}` : ended);
    this.#drawThoughts();
  }

  #drawThoughts() {
    const { reasoning } = this.node;
    if (!this.thinking.open || this.#drawn.reasoning === reasoning) return;
    this.#drawn.reasoning = reasoning;
    show(this.thoughts, this.#reasoning.read(reasoning, !isRunning(this.node)));
  }

  #drawError() {
    const { node } = this;
    const isEmpty = node.state === State.stopped && !node.content && !node.calls.length;
    const words = node.state === State.failed ? node.error?.message : isEmpty ? "Stopped before an answer came." : "";
    const shown = words || "";
    this.error.hidden = !shown;
    if (this.#drawn.error === shown) return;
    this.#drawn.error = shown;
    this.error.classList.toggle("mild", isEmpty);
    const retry = button("Try again", () => this.app.again(node.id), { data: { act: "retry" } });
    this.error.replaceChildren(h("p", {}, shown), retry);
  }
}
