// A conversation and the settings as the body of a request.

import { imagesOf, textOf } from "./tree.js";

/** Sampler values that a reader can set, with the name that the server knows them by. */
export const SAMPLER_FIELDS = ["temperature", "top_p", "top_k", "min_p", "presence_penalty", "repeat_penalty", "seed"];

/**
 * The body that asks for the message behind `messages`.
 * @param {object[]} messages nodes of a conversation, first to last
 * @param {object} settings
 * @param {{system: string, tools: string}} conversation
 */
export function bodyFor(messages, settings, conversation) {
  const body = {
    messages: messages.map(wireOf),
    stream: true,
    stream_options: { include_usage: true },
    return_progress: true,
  };
  if (settings.model) body.model = settings.model;
  if (conversation.system.trim()) body.messages.unshift({ role: "system", content: conversation.system });
  const { tools } = readTools(conversation.tools);
  if (tools.length) body.tools = tools;
  if (settings.preset) body.preset = settings.preset;
  for (const name of SAMPLER_FIELDS) {
    if (settings[name] !== null) body[name] = settings[name];
  }
  if (settings.max_tokens !== null) body.max_completion_tokens = settings.max_tokens;
  if (settings.effort) body.reasoning_effort = settings.effort;
  return body;
}

function wireOf(node) {
  if (node.role === "tool") return { role: "tool", tool_call_id: node.call, content: textOf(node) };
  if (node.role !== "assistant") {
    return { role: node.role, content: imagesOf(node).length ? node.content : textOf(node) };
  }
  const message = { role: "assistant", content: node.content };
  if (node.reasoning) message.reasoning_content = node.reasoning;
  if (node.calls?.length) {
    message.tool_calls = node.calls.map((call) => ({
      id: call.id,
      type: "function",
      function: { name: call.name, arguments: call.arguments },
    }));
  }
  return message;
}

/**
 * Reads tools as they are typed: a list of functions, or of OpenAI's wrappers around them.
 * @param {string} text
 * @returns {{tools: object[], fault: string}}
 */
export function readTools(text) {
  if (!text.trim()) return { tools: [], fault: "" };
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { tools: [], fault: `This is no JSON yet: ${error.message}` };
  }
  const tools = [];
  for (const item of Array.isArray(value) ? value : [value]) {
    const declared = item?.function ?? item;
    if (typeof declared?.name !== "string" || !declared.name) {
      return { tools: [], fault: "Each tool needs a name." };
    }
    tools.push({ type: "function", function: declared });
  }
  return { tools, fault: "" };
}
