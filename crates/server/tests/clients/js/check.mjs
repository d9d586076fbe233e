// OpenAI's JavaScript client against a server that is running: node check.mjs BASE KEY
// `crates/server/tests/clients/js_client.py` starts the server.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The packages lie where they were installed, not beside this file.
const installed = createRequire(`${process.cwd()}/`);
const load = (name) => import(pathToFileURL(installed.resolve(name)).href);
const { default: OpenAI } = await load("openai");
const { zodResponseFormat, zodTextFormat } = await load("openai/helpers/zod");
const { z } = await load("zod");

const [base, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0 });
const GREETING = "Hello! How can I help you?";
const CALM = { chat_template_kwargs: { enable_thinking: false } };
const QUIET = { reasoning: { effort: "none" } };
const SCHEMA = {
  type: "object",
  properties: {
    thing: { type: "string" },
    color: { type: "string", enum: ["red", "green", "blue", "yellow", "white"] },
  },
  required: ["thing"],
};
const FUNCTION = { name: "price_of", description: "Get the price of a thing.", parameters: SCHEMA };
const TOOLS = [{ type: "function", function: FUNCTION }];
const QUESTION = [{ role: "user", content: "What is the price of a cup?" }];
const Person = z.object({ name: z.string(), age: z.number().int() });
const AGE = "Dora turned 81 this year.";
const user = (content) => [{ role: "user", content }];

const checks = {
  async chat() {
    const models = await client.models.list();
    assert.ok(models.data[0].id);
    const whole = await client.chat.completions.create({ model: "gpt-4o", messages: user("hello!!"), ...CALM });
    assert.equal(whole.choices[0].message.content, GREETING);
    assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  },

  async streaming() {
    const stream = await client.chat.completions.create({
      model: "gpt-4o",
      messages: user("hello!!"),
      stream: true,
      stream_options: { include_usage: true },
      ...CALM,
    });
    let text = "";
    let usage;
    for await (const piece of stream) {
      text += piece.choices[0]?.delta.content ?? "";
      usage = piece.usage ?? usage;
    }
    assert.equal(text, GREETING);
    assert.ok(usage.completion_tokens > 0);
    const helper = client.chat.completions.stream({ model: "x", messages: user("hello!!"), ...CALM });
    const seen = [];
    helper.on("content", (delta) => seen.push(delta));
    assert.equal(await helper.finalContent(), GREETING);
    assert.equal(seen.join(""), GREETING);
  },

  async leaving() {
    const stream = await client.chat.completions.create({
      model: "x",
      messages: user("Tell a story about a fox and a lantern."),
      stream: true,
    });
    for await (const piece of stream) {
      if (piece.choices[0]) break;
    }
  },

  async tools() {
    const whole = await client.chat.completions.create({ model: "x", messages: QUESTION, tools: TOOLS, ...CALM });
    const [call] = whole.choices[0].message.tool_calls;
    assert.equal(call.function.name, "price_of");
    assert.equal(JSON.parse(call.function.arguments).thing, "cup");
    const asked = [];
    const runner = client.chat.completions.runTools({
      model: "x",
      messages: QUESTION,
      ...CALM,
      tools: [
        {
          type: "function",
          function: {
            ...FUNCTION,
            parse: JSON.parse,
            function: (args) => {
              asked.push(args.thing);
              return '{"price": 24.5}';
            },
          },
        },
      ],
    });
    assert.match(await runner.finalContent(), /24\.5/);
    assert.deepEqual(asked, ["cup"]);
    const streamed = client.chat.completions.stream({ model: "x", messages: QUESTION, tools: TOOLS, ...CALM });
    const {
      choices: [choice],
    } = await streamed.finalChatCompletion();
    assert.equal(choice.finish_reason, "tool_calls");
    assert.equal(choice.message.tool_calls[0].function.arguments, call.function.arguments);
  },

  async structured() {
    const completion = await client.chat.completions.parse({
      model: "x",
      messages: user(AGE),
      response_format: zodResponseFormat(Person, "person"),
      ...CALM,
    });
    assert.ok(Person.parse(completion.choices[0].message.parsed));
  },

  async responses() {
    const whole = await client.responses.create({ model: "x", input: "hello!!", store: false, ...QUIET });
    assert.equal(whole.output_text, GREETING);
    const kinds = [];
    let text = "";
    for await (const event of await client.responses.create({ model: "x", input: "hello!!", stream: true, ...QUIET })) {
      kinds.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    assert.equal(text, GREETING);
    assert.deepEqual([kinds[0], kinds.at(-1)], ["response.created", "response.completed"]);
    const called = await client.responses.create({
      model: "x",
      input: QUESTION,
      tools: [{ type: "function", strict: false, ...FUNCTION }],
      ...QUIET,
    });
    assert.equal(JSON.parse(called.output[0].arguments).thing, "cup");
    const parsed = await client.responses.parse({
      model: "x",
      input: AGE,
      text: { format: zodTextFormat(Person, "person") },
      ...QUIET,
    });
    assert.ok(Person.parse(parsed.output_parsed));
  },

  async errors() {
    const wrong = new OpenAI({ baseURL: `${base}/v1`, apiKey: "wrong", maxRetries: 0 });
    await assert.rejects(wrong.models.list(), OpenAI.AuthenticationError);
    const long = client.chat.completions.create({ model: "x", messages: user("word ".repeat(20_000)) });
    await assert.rejects(
      long,
      (error) => error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded",
    );
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log("ok", `js_${name}`);
}
