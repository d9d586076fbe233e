// What an answer in the making is doing: waiting, reading the prompt, thinking, writing; and how fast.

import { State } from "../chat/answer.js";
import { count, duration, h, setText, several } from "./h.js";

export class Status {
  constructor() {
    this.fill = h("span", { class: "fill" });
    this.track = h(
      "span",
      {
        class: "track",
        role: "progressbar",
        "aria-label": "Reading the prompt",
        "aria-valuemin": "0",
        "aria-valuemax": "100",
        hidden: true,
      },
      this.fill,
    );
    this.words = h("span", {});
    this.element = h(
      "div",
      { class: "status" },
      h("span", { class: "pulse", "aria-hidden": "true" }),
      this.words,
      this.track,
    );
  }

  /** `loading` is how far the model is, from 0 to 1, or null when it is there. */
  update(answer, generation, loading = null) {
    setText(this.words, wordsFor(answer, generation, loading));
    const { progress } = answer;
    this.track.hidden = answer.state !== State.reading || !progress;
    if (this.track.hidden) return;
    const percent = Math.round((100 * progress.processed) / Math.max(1, progress.total));
    this.fill.style.width = `${percent}%`;
    this.track.setAttribute("aria-valuenow", String(percent));
  }
}

function wordsFor(answer, generation, loading) {
  const waited = duration(Date.now() - answer.asked);
  if (answer.state === State.waiting) {
    return loading === null ? `Waiting, ${waited}` : `The model is being loaded, ${Math.round(100 * loading)} %`;
  }
  if (answer.state === State.reading) {
    const { processed, total, cache } = answer.progress;
    const cached = cache > 0 ? `, ${count(cache)} cached` : "";
    return `Reading ${count(processed)} of ${count(total)} tokens${cached}`;
  }
  const rate = generation?.pace.rate();
  const speed = rate ? `${rate < 10 ? rate.toFixed(1) : count(rate)} tokens/s` : "";
  return [several(answer.pieces, "token"), speed].filter(Boolean).join(" · ");
}
