import assert from "node:assert/strict";
import test from "node:test";

import * as answers from "../js/chat/answer.js";
import { bodyFor, readTools } from "../js/chat/request.js";
import { defaults } from "../js/store/settings.js";

const delta = (fields) => ({ choices: [{ delta: fields }] });

test("pieces become a message", () => {
  const answer = answers.newAnswer("m", 0);
  answers.take(answer, { choices: [], prompt_progress: { total: 9, processed: 4, cache: 2 } }, 5);
  assert.equal(answer.state, "reading");
  answers.take(answer, delta({ role: "assistant", content: null }), 6);
  assert.equal(answer.state, "reading");
  answers.take(answer, delta({ reasoning_content: "hm" }), 10);
  assert.equal(answer.state, "thinking");
  answers.take(answer, delta({ content: "Hel" }), 2010);
  answers.take(answer, delta({ content: "lo" }), 2020);
  answers.take(answer, { choices: [{ delta: {}, finish_reason: "stop" }], timings: { predicted_n: 3 } }, 2030);
  answers.take(answer, { choices: [], usage: { prompt_tokens: 9 } }, 2031);
  answers.close(answer, answers.State.done);
  const { content, reasoning, thoughtFor, finish, pieces, first, state } = answer;
  assert.deepEqual(
    { content, reasoning, thoughtFor, finish, pieces, first, state },
    {
      content: "Hello",
      reasoning: "hm",
      thoughtFor: 2000,
      finish: "stop",
      pieces: 3,
      first: 10,
      state: "done",
    },
  );
  assert.equal(answer.usage.prompt_tokens, 9);
  assert.equal(answer.progress, undefined);
});

test("calls come in pieces, side by side", () => {
  const answer = answers.newAnswer("m");
  const call = (index, fields) => delta({ tool_calls: [{ index, ...fields }] });
  answers.take(answer, call(0, { id: "a", function: { name: "f", arguments: "" } }));
  answers.take(answer, call(0, { function: { arguments: '{"x":' } }));
  answers.take(answer, call(1, { id: "b", function: { name: "g", arguments: "{}" } }));
  answers.take(answer, call(0, { function: { arguments: "1}" } }));
  assert.deepEqual(answer.calls, [
    { id: "a", name: "f", arguments: '{"x":1}' },
    { id: "b", name: "g", arguments: "{}" },
  ]);
});

test("what was cut short can be continued", () => {
  const answer = { ...answers.newAnswer("m"), content: "half" };
  assert.equal(answers.canContinue(answer), false);
  answers.close(answer, answers.State.stopped);
  assert.equal(answers.canContinue(answer), true);
  assert.equal(answers.canContinue({ ...answer, content: "" }), false);
  assert.equal(answers.canContinue({ ...answer, state: "done", finish: "length" }), true);
  assert.equal(answers.canContinue({ ...answer, state: "done", finish: "stop" }), false);
});

test("pace is of the last moments", () => {
  const pace = new answers.Pace(1000);
  assert.equal(pace.rate(), null);
  for (let t = 0; t <= 5000; t += 100) pace.mark(t < 3000 ? t / 100 : 30 + (t - 3000) / 10, t);
  assert.equal(Math.round(pace.rate()), 100);
});

test("settings and conversation become a body", () => {
  const conversation = { system: "Be brief.", tools: '[{"name":"f","parameters":{}}]' };
  const messages = [
    { role: "user", content: [{ type: "text", text: "a" }] },
    { role: "assistant", content: "", reasoning: "r", calls: [{ id: "1", name: "f", arguments: "{}" }] },
    { role: "tool", call: "1", content: "42" },
  ];
  const settings = { ...defaults(), model: "m", preset: "coding", temperature: 0, effort: "low", max_tokens: 9 };
  const body = bodyFor(messages, settings, conversation);
  assert.deepEqual(body.messages, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "a" },
    {
      role: "assistant",
      content: "",
      reasoning_content: "r",
      tool_calls: [{ id: "1", type: "function", function: { name: "f", arguments: "{}" } }],
    },
    { role: "tool", tool_call_id: "1", content: "42" },
  ]);
  assert.equal(body.temperature, 0);
  assert.equal("top_p" in body, false);
  assert.deepEqual([body.preset, body.reasoning_effort, body.max_completion_tokens], ["coding", "low", 9]);
  assert.equal(body.tools[0].function.name, "f");
});

test("tools are read as they are typed", () => {
  assert.deepEqual(readTools(" "), { tools: [], fault: "" });
  assert.match(readTools("[{").fault, /no JSON/);
  assert.match(readTools("[{}]").fault, /name/);
  assert.equal(readTools('{"type":"function","function":{"name":"f"}}').tools.length, 1);
});
