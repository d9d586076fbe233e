import assert from "node:assert/strict";
import test from "node:test";

import { SseReader } from "../js/net/sse.js";

const STREAM = ': hello\r\n\r\ndata: {"a":1}\n\nevent: named\rdata:two\rdata: lines\r\rid: 7\ndata\n\ndata: [DONE]\n\n';
const EVENTS = [
  { name: "message", data: '{"a":1}' },
  { name: "named", data: "two\nlines" },
  { name: "message", data: "" },
  { name: "message", data: "[DONE]" },
];

test("events are read whole", () => {
  assert.deepEqual(new SseReader().push(STREAM), EVENTS);
});

test("a stream may be cut anywhere", () => {
  for (let cut = 0; cut <= STREAM.length; cut += 1) {
    const reader = new SseReader();
    assert.deepEqual([...reader.push(STREAM.slice(0, cut)), ...reader.push(STREAM.slice(cut))], EVENTS, `at ${cut}`);
  }
  const reader = new SseReader();
  assert.deepEqual(
    [...STREAM].flatMap((char) => reader.push(char)),
    EVENTS,
  );
});

test("what has no empty line behind it is not an event yet", () => {
  assert.deepEqual(new SseReader().push("data: half"), []);
});
