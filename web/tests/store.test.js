import assert from "node:assert/strict";
import test from "node:test";

import { add, newConversation } from "../js/chat/tree.js";
import { openConversations } from "../js/store/conversations.js";
import { Drafts, number, Settings, sound } from "../js/store/settings.js";

class Memory {
  #kept = new Map();
  getItem(name) {
    return this.#kept.get(name) ?? null;
  }
  setItem(name, value) {
    this.#kept.set(name, value);
  }
  removeItem(name) {
    this.#kept.delete(name);
  }
}

test("settings last and tell of changes", () => {
  const storage = new Memory();
  const settings = new Settings(storage);
  const told = [];
  settings.addEventListener("change", (event) => told.push(event.detail));
  settings.set("temperature", "0.7");
  settings.set("temperature", 0.7);
  settings.set("theme", "dark");
  assert.deepEqual(told, ["temperature", "theme"]);
  assert.equal(new Settings(storage).get("temperature"), 0.7);
});

test("what makes no sense is not set", () => {
  const kept = sound({ temperature: 99, top_k: "x", theme: "pink", model: 7, system: "s", other: 1 });
  assert.deepEqual([kept.temperature, kept.top_k, kept.theme, kept.model, kept.system], [2, null, "", "", "s"]);
  assert.equal("other" in kept, false);
  assert.equal(number("top_p", " "), null);
  assert.equal(number("top_p", "0"), 0);
});

test("storage that fails is done without", () => {
  const refusing = {
    getItem() {
      throw new Error("no");
    },
    setItem() {
      throw new Error("no");
    },
    removeItem() {
      throw new Error("no");
    },
  };
  const settings = new Settings(refusing);
  settings.set("model", "m");
  assert.equal(settings.get("model"), "m");
  const drafts = new Drafts(refusing);
  drafts.set("a", "text");
  drafts.set("a", "");
  assert.equal(drafts.get("a"), "");
  assert.equal(new Settings(null).get("model"), "");
});

test("drafts are kept by conversation", () => {
  const drafts = new Drafts(new Memory());
  drafts.set("a", "one");
  assert.deepEqual([drafts.get("a"), drafts.get("b")], ["one", ""]);
  drafts.set("a", "");
  assert.equal(drafts.get("a"), "");
});

test("without a database conversations last as long as the page", async () => {
  const kept = await openConversations(undefined);
  assert.equal(kept.isLasting, false);
  const conversation = newConversation();
  await kept.put(conversation);
  add(conversation, null, { role: "user", content: "later" });
  assert.deepEqual(
    (await kept.all()).map(({ roots }) => roots.length),
    [0],
  );
  await kept.remove(conversation.id);
  assert.deepEqual(await kept.all(), []);
});
