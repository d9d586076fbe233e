// What can go wrong between the page and the server, in words that say what to do.

/** Kinds of failures that the page treats differently. */
export const Kind = Object.freeze({
  unreachable: "unreachable",
  key: "key",
  busy: "busy",
  context: "context",
  refused: "refused",
  broken: "broken",
});

/** A failure that a reader can be shown. */
export class Failure extends Error {
  /**
   * @param {string} kind one of `Kind`
   * @param {string} message what happened and what to try
   * @param {number} [retryAfter] seconds
   */
  constructor(kind, message, retryAfter) {
    super(message);
    this.name = "Failure";
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

/** The server did not answer at all. */
export function unreachable() {
  return new Failure(Kind.unreachable, "The server cannot be reached. Is it running? What you wrote is kept here.");
}

/** The connection ended in the middle of an answer. */
export function brokenOff() {
  return new Failure(Kind.broken, "The connection was lost before the answer was complete. What came so far is kept.");
}

/**
 * A failure from a response that is no success.
 * @param {number} status
 * @param {unknown} body its JSON, if it had any
 * @param {string | null} retryAfter the header
 */
export function ofResponse(status, body, retryAfter) {
  const told = messageIn(body) ?? `The server answered with status ${status}.`;
  const code = body?.error?.code;
  if (status === 401 || status === 403) {
    const isMissing = /needed/.test(told);
    const what = isMissing ? "This server wants an API key." : "The server does not know this API key.";
    return new Failure(Kind.key, `${what} Enter it in the settings.`);
  }
  if (code === "context_length_exceeded") {
    const { n_prompt_tokens: prompt, n_ctx: context } = body.error;
    const numbers = prompt && context ? ` (${prompt} tokens, and the model takes ${context})` : "";
    return new Failure(
      Kind.context,
      `The conversation is too long for the model${numbers}. Start a new one, or edit an earlier message.`,
    );
  }
  if (status === 429) {
    const seconds = Number(retryAfter) || undefined;
    const when = seconds ? ` Try again in ${seconds} s.` : " Try again in a moment.";
    return new Failure(Kind.busy, `The server is busy.${when}`, seconds);
  }
  if (status === 502 || status === 503 || status === 504) {
    return new Failure(Kind.unreachable, `The server is not available: ${told}`);
  }
  return new Failure(status >= 500 ? Kind.broken : Kind.refused, told);
}

/** A failure from an error that came inside a stream. */
export function ofEvent(body) {
  const status = Number(body?.error?.code) || (body?.error?.type === "server_error" ? 500 : 400);
  return ofResponse(status === 401 ? 400 : status, body, null);
}

function messageIn(body) {
  const message = body?.error?.message ?? body?.error ?? body?.message;
  if (typeof message !== "string" || message === "") return null;
  const whole = message[0].toUpperCase() + message.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
