import assert from "node:assert/strict";
import test from "node:test";

import { ofEvent, ofResponse } from "../js/net/failure.js";
import { label, readFigures } from "../js/net/prometheus.js";

test("failures say what to do", () => {
  const missing = ofResponse(401, { error: { message: "an API key is needed; send `Authorization`" } }, null);
  assert.equal(missing.kind, "key");
  assert.match(missing.message, /wants an API key/);
  assert.match(ofResponse(401, { error: { message: "the API key is wrong" } }, null).message, /does not know/);
  const long = ofResponse(400, { error: { code: "context_length_exceeded", n_prompt_tokens: 9, n_ctx: 4 } }, null);
  assert.match(long.message, /9 tokens, and the model takes 4/);
  assert.match(ofResponse(429, null, "5").message, /in 5 s/);
  assert.equal(ofResponse(502, "<html>", null).kind, "unreachable");
  assert.equal(ofResponse(500, null, null).kind, "broken");
  assert.equal(ofResponse(400, { error: { message: "bad temperature" } }, null).message, "Bad temperature.");
  assert.equal(ofEvent({ error: { message: "gone", type: "server_error" } }).kind, "broken");
});

test("figures of a model are read, without histograms' buckets", () => {
  const page = [
    "# HELP a text",
    "# TYPE a gauge",
    'a{model_name="x"} 1',
    'a{model_name="y {z}"} 2.5',
    "plain 3",
    'h_bucket{le="1"} 4',
    'h_sum{m="x"} 1e3',
    'c{model_name="x",block_size="64"} 1',
    "nothing NaN",
  ].join("\n");
  assert.deepEqual(Object.fromEntries(readFigures(page, "x")), { a: 1, plain: 3, h_sum: 1000, c: 1 });
  assert.equal(readFigures(page, "y {z}").get("a"), 2.5);
  assert.equal(readFigures(page, "other").get("a"), undefined);
  assert.equal(label(page, "c", "block_size"), "64");
  assert.equal(label(page, "d", "block_size"), undefined);
});
