// What the server is doing: memory, cache, answers in the making, speed.

import { label, readFigures } from "../net/prometheus.js";
import { usedTokens } from "./composer.js";
import { bytes, count, h, setText, several } from "./h.js";
import { Meter } from "./meter.js";
import { Sparkline } from "./sparkline.js";

const EVERY_MS = 1000;

export class ServerView {
  #timer = 0;
  #isShown = false;
  #before = null;

  constructor(app) {
    this.app = app;
    this.speed = new Sparkline("Tokens per second, of all answers together");
    this.speedNow = h("strong", { class: "big" }, "0");
    this.context = new Meter("This conversation", ["used"]);
    this.memory = new Meter("Key/value memory", ["held", "cached"]);
    this.hits = new Meter("Prompt tokens from the cache", ["used"]);
    this.drafts = new Meter("Drafts accepted", ["used"]);
    this.slots = h("ul", { class: "slots" });
    this.facts = h("dl", { class: "facts" });
    this.why = h("p", { class: "hint", role: "status" });
    this.element = h(
      "div",
      { class: "server" },
      group("Speed", h("p", { class: "reading" }, this.speedNow, " tokens/s"), this.speed.element),
      group("Memory", this.context.element, this.memory.element, this.hits.element, this.drafts.element),
      group("Answers in the making", this.slots),
      group("Model", this.facts),
      this.why,
    );
    app.addEventListener("answer", () => this.#isShown && this.#drawContext());
    app.addEventListener("opened", () => this.#isShown && this.#drawContext());
    document.addEventListener("visibilitychange", () => this.#isShown && !document.hidden && this.#look());
  }

  show() {
    this.#isShown = true;
    this.#look();
  }

  hide() {
    this.#isShown = false;
    clearTimeout(this.#timer);
  }

  async #look() {
    clearTimeout(this.#timer);
    const { api } = this.app;
    // Either may be switched off at the server.
    const model = this.app.server.model()?.id;
    const [page, slots] = await Promise.all([api.metrics().catch(() => null), api.slots(model).catch(() => null)]);
    if (!this.#isShown) return;
    this.#drawFacts();
    this.#drawContext();
    // Models that differ in nothing but how they answer have their figures in common.
    if (page) this.#drawFigures(page, slots?.[0]?.model ?? model ?? "");
    if (slots) this.#drawSlots(slots);
    setText(this.why, page && slots ? "" : "The server does not tell all of its figures now.");
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.#look(), EVERY_MS);
  }

  #drawContext() {
    const context = this.app.server.context();
    const used = usedTokens(this.app.current);
    this.context.update([used], context, `${count(used)} of ${count(context)} tokens`);
  }

  #drawFigures(page, model) {
    const figures = readFigures(page, model);
    const of = (name) => figures.get(name) ?? 0;
    const now = { model, time: performance.now(), tokens: of("vllm:generation_tokens_total") };
    if (this.#before?.model === model) {
      const seconds = Math.max(0.2, (now.time - this.#before.time) / 1000);
      const rate = Math.max(0, (now.tokens - this.#before.tokens) / seconds);
      setText(this.speedNow, rate < 10 ? String(Number(rate.toFixed(1))) : count(rate));
      this.speed.add(rate);
    }
    this.#before = now;
    const tokens = Number(label(page, "vllm:cache_config_info", "block_size") ?? 1);
    const [pages, held, cached] = [of("tidemill:pages"), of("tidemill:pages_held"), of("tidemill:pages_cached")];
    const entries = of("tidemill:cache_entries");
    const kept = entries ? `, ${several(entries, "cached prompt")} (${bytes(of("tidemill:cache_bytes"))})` : "";
    this.memory.update(
      [held, cached],
      pages,
      `${count((held + cached) * tokens)} of ${count(pages * tokens)} tokens${kept}`,
    );
    const [hits, queries] = [of("vllm:prefix_cache_hits_total"), of("vllm:prefix_cache_queries_total")];
    this.hits.update([hits], queries, `${count(hits)} of ${count(queries)}`);
    const [accepted, drafted] = [
      of("vllm:spec_decode_num_accepted_tokens_total"),
      of("vllm:spec_decode_num_draft_tokens_total"),
    ];
    this.drafts.update([accepted], drafted, `${count(accepted)} of ${count(drafted)}`);
    this.drafts.element.hidden = drafted === 0;
  }

  #drawSlots(slots) {
    const words = slots.map((slot) => {
      if (slot.state === "idle" || !slot.is_processing) return ["idle", "Idle"];
      const read = `${count(slot.n_past ?? 0)} of ${count(slot.n_prompt_tokens ?? 0)} tokens read`;
      const texts = {
        waiting: "Waiting",
        prefill: read,
        decode: `${count(slot.n_decoded ?? 0)} tokens written`,
        paused: "Paused, makes room",
      };
      return [slot.state, texts[slot.state] ?? "Working"];
    });
    this.slots.replaceChildren(
      ...words.map(([state, text]) =>
        h("li", { data: { state } }, h("span", { class: "dot", "aria-hidden": "true" }), text),
      ),
    );
  }

  #drawFacts() {
    const model = this.app.server.model();
    const { props } = this.app.server;
    if (!model) return;
    const rows = [
      ["Name", model.id],
      [
        "Context",
        `${count(model.context_length ?? 0)} tokens${model.meta?.n_ctx_train > model.context_length ? `, trained for ${count(model.meta.n_ctx_train)}` : ""}`,
      ],
      ["Files", model.meta?.size ? bytes(model.meta.size) : ""],
      ["At once", props?.total_slots ? several(props.total_slots, "answer") : ""],
      ["From", props?.model_path ?? ""],
      ["Server", props?.build_info ?? ""],
    ].filter(([, value]) => value);
    const text = JSON.stringify(rows);
    if (this.facts.dataset.shown === text) return;
    this.facts.dataset.shown = text;
    this.facts.replaceChildren(...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  }
}

function group(title, ...kids) {
  return h("section", { class: "group" }, h("h2", {}, title), ...kids);
}
