import assert from "node:assert/strict";
import test from "node:test";

import { newAnswer } from "../js/chat/answer.js";
import * as tree from "../js/chat/tree.js";

const answerOf = (content) => ({ ...newAnswer("m"), content });

function talk() {
  const conversation = tree.newConversation();
  const question = tree.add(conversation, null, { role: "user", content: "one" });
  const answer = tree.add(conversation, question.id, answerOf("two"));
  return { conversation, question, answer };
}

const says = (conversation) => tree.path(conversation).map((node) => node.content);

test("editing makes a sibling and keeps what was there", () => {
  const { conversation, question } = talk();
  const edited = tree.add(conversation, null, { role: "user", content: "uno" });
  tree.add(conversation, edited.id, answerOf("due"));
  assert.deepEqual(says(conversation), ["uno", "due"]);
  assert.deepEqual(tree.siblings(conversation, edited.id), [question.id, edited.id]);
  tree.choose(conversation, question.id);
  assert.deepEqual(says(conversation), ["one", "two"]);
  tree.choose(conversation, edited.id);
  assert.deepEqual(says(conversation), ["uno", "due"]);
});

test("removing shows a neighbour and leaves nothing behind", () => {
  const { conversation, question, answer } = talk();
  const other = tree.add(conversation, question.id, answerOf("zwei"));
  tree.add(conversation, other.id, { role: "user", content: "three" });
  tree.remove(conversation, other.id);
  assert.deepEqual(says(conversation), ["one", "two"]);
  assert.equal(Object.keys(conversation.nodes).length, 2);
  tree.remove(conversation, answer.id);
  assert.deepEqual(says(conversation), ["one"]);
  tree.remove(conversation, question.id);
  assert.deepEqual(says(conversation), []);
  assert.ok(tree.isSound(conversation));
});

test("paths and titles", () => {
  const { conversation, answer } = talk();
  assert.deepEqual(
    tree.pathTo(conversation, answer.id).map((node) => node.content),
    ["one", "two"],
  );
  assert.equal(conversation.title, "one");
  assert.equal(tree.titleOf(`  ${"word ".repeat(30)}\nmore`).length <= 61, true);
  const parts = [
    { type: "text", text: "look" },
    { type: "image_url", image_url: { url: "data:x" } },
  ];
  assert.equal(tree.textOf({ content: parts }), "look");
  assert.deepEqual(tree.imagesOf({ content: parts }), ["data:x"]);
});

test("what is not a conversation is told apart", () => {
  const { conversation, question, answer } = talk();
  assert.ok(tree.isSound(JSON.parse(JSON.stringify(conversation))));
  const spoilt = (change) => {
    const copy = structuredClone(conversation);
    change(copy);
    return tree.isSound(copy);
  };
  assert.equal(tree.isSound(null), false);
  assert.equal(
    spoilt((c) => delete c.nodes[answer.id]),
    false,
  );
  assert.equal(
    spoilt((c) => c.nodes[answer.id].children.push(question.id)),
    false,
  );
  assert.equal(
    spoilt((c) => (c.chosen = "x")),
    false,
  );
  for (const change of [
    (c) => (c.nodes[question.id].role = 1),
    (c) => (c.nodes[question.id].role = "system"),
    (c) => (c.nodes[question.id].role = "constructor"),
    (c) => (c.nodes[question.id].content = null),
    (c) => (c.nodes[question.id].content = [null]),
    (c) => (c.nodes[question.id].content = [{ type: "image_url" }]),
    (c) => (c.nodes[question.id].roots = []),
    (c) => delete c.nodes[answer.id].calls,
    (c) => (c.nodes[answer.id].calls = [{ name: "f" }]),
    (c) => delete c.nodes[answer.id].reasoning,
    (c) => delete c.system,
    (c) => (c.tools = 1),
    (c) => (c.updated = "now"),
  ]) {
    assert.equal(spoilt(change), false, String(change));
  }
  assert.equal(
    spoilt((c) => (c.nodes.lost = { id: "lost", parent: null, role: "user", children: [] })),
    false,
  );
});

test("long conversations are no harm", () => {
  const conversation = tree.newConversation();
  let parent = null;
  for (let turn = 0; turn < 20_000; turn++) parent = tree.add(conversation, parent, { role: "user", content: "x" }).id;
  assert.ok(tree.isSound(conversation));
});
