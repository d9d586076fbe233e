// What is known of the server, and whether it is there.

import { Kind } from "../net/failure.js";

const CALM_MS = 20_000;
const WORRIED_MS = 2500;
const LOADING_MS = 700;

/** How the server stands. */
export const Standing = Object.freeze({ unknown: "unknown", ready: "ready", key: "key", away: "away" });

/** Watches the server. Tells of changes by the event `change`. */
export class Server extends EventTarget {
  standing = Standing.unknown;
  why = "";
  models = [];
  props = null;
  #timer = 0;

  /**
   * @param {import("../net/api.js").Api} api
   * @param {() => string} wanted the model that is wanted; "" for any
   */
  constructor(api, wanted) {
    super();
    this.api = api;
    this.wanted = wanted;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.look();
    });
  }

  /** Asks the server what it is. */
  async look() {
    clearTimeout(this.#timer);
    try {
      this.models = await this.api.models();
      this.props = await this.api.props(this.model()?.id);
      this.#stand(Standing.ready, "");
    } catch (error) {
      this.#stand(error.kind === Kind.key ? Standing.key : Standing.away, error.message);
    }
    const isLoading = this.models.some(({ status }) => status?.value === "loading");
    const wait = this.standing === Standing.away ? WORRIED_MS : isLoading ? LOADING_MS : CALM_MS;
    this.#timer = setTimeout(() => (document.hidden ? undefined : this.look()), wait);
  }

  /** The model of this name (without one, that which is wanted), else the first. */
  model(name = this.wanted()) {
    return this.models.find(({ id }) => id === name) ?? this.models[0] ?? null;
  }

  /** How far a model is loaded, from 0 to 1; null when it is, or when nobody knows. */
  loading(name) {
    const status = this.model(name)?.status;
    return status?.value === "loading" ? (status.progress ?? 0) : null;
  }

  /** Whether the model takes images. */
  sees() {
    const inputs = this.model()?.architecture?.input_modalities;
    return inputs?.includes("image") ?? this.props?.modalities?.vision === true;
  }

  /** The most tokens of a conversation with the model; 0 while it is not known. */
  context() {
    return this.model()?.context_length ?? this.props?.default_generation_settings?.n_ctx ?? 0;
  }

  #stand(standing, why) {
    this.standing = standing;
    this.why = why;
    this.dispatchEvent(new Event("change"));
  }
}
