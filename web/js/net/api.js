// The server's paths that the page uses. Addresses are relative, so that a proxy may put it anywhere.

import { SseReader } from "./sse.js";
import { brokenOff, Failure, ofEvent, ofResponse, unreachable } from "./failure.js";

/** Talks to the server that the page came from. */
export class Api {
  /** @param {() => string} key the API key as it is now; empty for none */
  constructor(key) {
    this.key = key;
  }

  /** The models: `[{id, context_length, architecture, ...}]`. */
  async models(signal) {
    return (await this.#json("v1/models", signal)).data ?? [];
  }

  /** What a model is set up as. */
  props(model, signal) {
    return this.#json(`props?${about(model)}`, signal);
  }

  /** A model's answers in the making. */
  slots(model, signal) {
    return this.#json(`slots?${about(model)}`, signal);
  }

  /** Figures, as text in Prometheus' form. */
  async metrics(signal) {
    return (await this.#fetch("metrics", { signal })).text();
  }

  /**
   * Asks for an answer and gives each of its pieces to `onPiece`.
   * @param {object} body
   * @param {AbortSignal} signal ends it
   * @param {(piece: object) => void} onPiece
   * @throws {Failure}
   */
  async chat(body, signal, onPiece) {
    const response = await this.#fetch("v1/chat/completions", {
      method: "POST",
      signal,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const events = new SseReader();
    const text = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await text.read().catch((error) => {
        throw signal.aborted ? error : brokenOff();
      });
      if (done) throw brokenOff();
      for (const event of events.push(value)) {
        if (event.data === "[DONE]") return;
        const piece = parsed(event.data);
        if (piece.error) throw ofEvent(piece);
        onPiece(piece);
      }
    }
  }

  async #json(path, signal) {
    const response = await this.#fetch(path, { signal });
    return response.json().catch(() => {
      throw new Failure("broken", `The server's answer at /${path} is no JSON.`);
    });
  }

  async #fetch(path, options) {
    const headers = new Headers(options.headers);
    const key = this.key();
    if (key) headers.set("authorization", `Bearer ${key}`);
    let response;
    try {
      response = await fetch(path, { ...options, headers, cache: "no-store", redirect: "error" });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw unreachable();
    }
    if (response.ok) return response;
    const body = await response.json().catch(() => null);
    throw ofResponse(response.status, body, response.headers.get("retry-after"));
  }
}

function about(model) {
  return new URLSearchParams(model ? { model } : {});
}

function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw brokenOff();
  }
}
