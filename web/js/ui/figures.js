// What an answer cost, in a line.

import { State } from "../chat/answer.js";
import { count, duration, several } from "./h.js";

/** In short under the answer; `isLong` with everything that is known. */
export function figuresOf(answer, isLong = false) {
  const { timings, usage, pieces } = answer;
  const parts = [];
  if (answer.state === State.stopped) parts.push("Stopped");
  if (answer.finish === "length") parts.push("Cut at the limit");
  if (!timings) {
    if (pieces) parts.push(`about ${several(pieces, "token")}`);
    return parts.join(" · ");
  }
  const speed = timings.predicted_per_second;
  const prompt = timings.prompt_n + timings.cache_n;
  parts.push(several(timings.predicted_n, "token"));
  if (speed > 0) parts.push(`${speed < 10 ? speed.toFixed(1) : count(speed)} tokens/s`);
  if (timings.cache_n > 0) parts.push(`${count(timings.cache_n)} of ${count(prompt)} prompt tokens cached`);
  else parts.push(several(prompt, "prompt token"));
  if (!isLong) return parts.join(" · ");
  const reasoning = usage?.completion_tokens_details?.reasoning_tokens;
  if (reasoning) parts.push(`${count(reasoning)} of thinking`);
  parts.push(`prompt read in ${duration(timings.prompt_ms)}`);
  if (timings.prompt_per_second > 0) parts.push(`${count(timings.prompt_per_second)} tokens/s`);
  if (answer.first) parts.push(`first token after ${duration(answer.first - answer.asked)}`);
  if (timings.draft_n) parts.push(`${count(timings.draft_n_accepted)} of ${count(timings.draft_n)} drafts accepted`);
  if (answer.model) parts.push(answer.model);
  return parts.join("\n");
}
