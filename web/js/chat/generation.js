// One answer: asked for, received, closed.

import { close, Pace, State, take } from "./answer.js";

/** An answer in the making. */
export class Generation {
  #abort = new AbortController();
  pace = new Pace();

  /** @param {object} answer the node of the conversation that it becomes */
  constructor(answer) {
    this.answer = answer;
  }

  /**
   * Runs to the end, whatever that is; never fails.
   * @param {import("../net/api.js").Api} api
   * @param {object} body
   * @param {() => void} changed called after each piece
   */
  async run(api, body, changed) {
    try {
      await api.chat(body, this.#abort.signal, (piece) => {
        take(this.answer, piece);
        if (this.answer.pieces) this.pace.mark(this.answer.pieces, Date.now());
        changed();
      });
      close(this.answer, State.done);
    } catch (error) {
      if (this.#abort.signal.aborted) close(this.answer, State.stopped);
      else close(this.answer, State.failed, error);
    }
    changed();
  }

  /** Ends it; what came so far stays. */
  stop() {
    this.#abort.abort();
  }
}
