import assert from "node:assert/strict";
import test from "node:test";

import * as tree from "../js/chat/tree.js";

function talk() {
  const conversation = tree.newConversation();
  const question = tree.add(conversation, null, { role: "user", content: "one" });
  const answer = tree.add(conversation, question.id, { role: "assistant", content: "two" });
  return { conversation, question, answer };
}

const says = (conversation) => tree.path(conversation).map((node) => node.content);

test("editing makes a sibling and keeps what was there", () => {
  const { conversation, question } = talk();
  const edited = tree.add(conversation, null, { role: "user", content: "uno" });
  tree.add(conversation, edited.id, { role: "assistant", content: "due" });
  assert.deepEqual(says(conversation), ["uno", "due"]);
  assert.deepEqual(tree.siblings(conversation, edited.id), [question.id, edited.id]);
  tree.choose(conversation, question.id);
  assert.deepEqual(says(conversation), ["one", "two"]);
  tree.choose(conversation, edited.id);
  assert.deepEqual(says(conversation), ["uno", "due"]);
});

test("removing shows a neighbour and leaves nothing behind", () => {
  const { conversation, question, answer } = talk();
  const other = tree.add(conversation, question.id, { role: "assistant", content: "zwei" });
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
  assert.equal(
    spoilt((c) => (c.nodes[question.id].role = 1)),
    false,
  );
  assert.equal(
    spoilt((c) => (c.nodes.lost = { id: "lost", parent: null, role: "user", children: [] })),
    false,
  );
});
