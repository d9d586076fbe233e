// An answer while it comes: pieces of a stream become a message.

/** How an answer can stand. */
export const State = Object.freeze({
  waiting: "waiting",
  reading: "reading",
  thinking: "thinking",
  writing: "writing",
  done: "done",
  stopped: "stopped",
  failed: "failed",
});

const RUNNING = new Set([State.waiting, State.reading, State.thinking, State.writing]);

/** Whether more is to come. */
export function isRunning(answer) {
  return RUNNING.has(answer.state);
}

/** The fields of an answer that has only been asked for. */
export function newAnswer(model, now = Date.now()) {
  return { role: "assistant", content: "", reasoning: "", calls: [], state: State.waiting, model, asked: now };
}

/** Makes a partial answer ready to be continued. */
export function reopen(answer, now = Date.now()) {
  Object.assign(answer, { state: State.waiting, asked: now, first: undefined, pieces: 0, error: undefined });
}

/**
 * Adds a piece of the stream.
 * @param {object} answer changed in place
 * @param {object} piece
 * @param {number} now milliseconds
 */
export function take(answer, piece, now = Date.now()) {
  const { prompt_progress: progress, usage, timings } = piece;
  if (progress) {
    answer.progress = progress;
    answer.state = State.reading;
  }
  if (usage) answer.usage = usage;
  if (timings) answer.timings = timings;
  const choice = piece.choices?.[0];
  if (!choice) return;
  const delta = choice.delta ?? {};
  const reasoning = delta.reasoning_content ?? delta.reasoning;
  if (reasoning || delta.content || delta.tool_calls?.length) {
    answer.first ??= now;
    answer.pieces = (answer.pieces ?? 0) + 1;
  }
  if (reasoning) {
    answer.reasoning += reasoning;
    answer.thinkingSince ??= now;
    answer.state = State.thinking;
  }
  if (delta.content || delta.tool_calls?.length) {
    if (answer.thinkingSince && !answer.thoughtFor) answer.thoughtFor = now - answer.thinkingSince;
    answer.state = State.writing;
  }
  if (delta.content) answer.content += delta.content;
  for (const call of delta.tool_calls ?? []) addCall(answer.calls, call);
  if (choice.finish_reason) {
    answer.finish = choice.finish_reason;
    if (answer.thinkingSince && !answer.thoughtFor) answer.thoughtFor = now - answer.thinkingSince;
  }
}

function addCall(calls, piece) {
  const index = piece.index ?? calls.length;
  while (calls.length <= index) calls.push({ id: "", name: "", arguments: "" });
  const call = calls[index];
  if (piece.id) call.id = piece.id;
  if (piece.function?.name) call.name = piece.function.name;
  call.arguments += piece.function?.arguments ?? "";
}

/** Ends an answer. */
export function close(answer, state, error) {
  answer.state = state;
  if (error) answer.error = { kind: error.kind ?? "broken", message: error.message };
  delete answer.progress;
}

/** Ends answers that were under way when the page was closed. */
export function closeInterrupted(conversation) {
  for (const node of Object.values(conversation.nodes)) {
    if (node.role === "assistant" && isRunning(node)) close(node, State.stopped);
  }
}

/** Whether an answer that ended early can be gone on with. */
export function canContinue(answer) {
  const isCut = answer.state === State.stopped || answer.state === State.failed || answer.finish === "length";
  return !isRunning(answer) && isCut && answer.content !== "" && answer.calls.length === 0;
}

/** How fast something grows: tokens a second over the last moments. */
export class Pace {
  #marks = [];

  constructor(window = 2500) {
    this.window = window;
  }

  /** Notes the count at a time in milliseconds. */
  mark(count, now) {
    this.#marks.push([now, count]);
    while (this.#marks.length > 2 && this.#marks[0][0] < now - this.window) this.#marks.shift();
  }

  /** In a second, or null while it is not known. */
  rate() {
    const [from] = this.#marks;
    const to = this.#marks.at(-1);
    const span = to ? to[0] - from[0] : 0;
    return span < 200 ? null : ((to[1] - from[1]) * 1000) / span;
  }
}
