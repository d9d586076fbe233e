// The page's state and everything that can be done with it. Knows no elements: those listen to its events.
//
//   list     conversations were added, removed, renamed
//   opened   another conversation is shown
//   path     other messages of it are shown
//   answer   an answer grew (detail: the node)

import { closeInterrupted, newAnswer, reopen } from "./chat/answer.js";
import { Generation } from "./chat/generation.js";
import { bodyFor } from "./chat/request.js";
import * as tree from "./chat/tree.js";

const SAVE_EVERY_MS = 1000;

export class App extends EventTarget {
  /** All conversations by id. */
  conversations = new Map();
  /** The one that is shown; it is kept once it has a message. */
  current = null;
  #running = new Map();
  #unsaved = new Map();

  constructor({ settings, drafts, kept, api, server }) {
    super();
    Object.assign(this, { settings, drafts, kept, api, server });
    addEventListener("pagehide", () => this.#saveAll());
  }

  /** Reads what was kept and opens a new conversation, or the one that the address names. */
  async start() {
    for (const conversation of await this.kept.all()) {
      closeInterrupted(conversation);
      this.conversations.set(conversation.id, conversation);
    }
    this.#tell("list");
    this.open(location.hash.slice(1));
    addEventListener("hashchange", () => {
      const id = location.hash.slice(1);
      if (id !== this.current.id) this.open(id);
    });
    this.kept.onChange((id, conversation) => this.#changedElsewhere(id, conversation));
    this.server.look();
  }

  /** Opens a conversation, or a new one where there is none of this id. */
  open(id) {
    const { system, tools } = this.settings.all;
    if (this.current?.id === id && this.conversations.has(id)) return;
    this.current = this.conversations.get(id) ?? tree.newConversation({ system, tools });
    const hash = this.conversations.has(this.current.id) ? `#${this.current.id}` : "";
    if (location.hash !== hash) history.pushState(null, "", hash || location.pathname + location.search);
    this.#tell("opened");
  }

  /** Sends a message behind those that are shown. */
  send(text, images = []) {
    const content = images.length
      ? [{ type: "text", text }, ...images.map((url) => ({ type: "image_url", image_url: { url } }))]
      : text;
    this.#ask(tree.path(this.current).at(-1)?.id ?? null, { role: "user", content });
  }

  /** Sends a message again in other words, beside the first. */
  edit(id, text) {
    const node = this.current.nodes[id];
    const images = tree.imagesOf(node).map((url) => ({ type: "image_url", image_url: { url } }));
    const content = images.length ? [{ type: "text", text }, ...images] : text;
    this.#ask(node.parent, { role: "user", content });
  }

  /** Asks for another answer beside this one. */
  again(id) {
    this.#answer(this.current.nodes[id].parent);
  }

  /** Goes on with an answer that ended early. */
  goOn(id) {
    const answer = this.current.nodes[id];
    answer.model = this.server.model()?.id ?? answer.model;
    reopen(answer);
    this.#run(this.current, answer, tree.pathTo(this.current, id));
  }

  /** Gives the results of an answer's calls, and asks for what follows. */
  giveResults(id, results) {
    const { calls } = this.current.nodes[id];
    let parent = id;
    calls.forEach((call, index) => {
      const node = { role: "tool", call: call.id, name: call.name, content: results[index] };
      parent = tree.add(this.current, parent, node).id;
    });
    this.#answer(parent);
  }

  /** Ends the answer that is shown. */
  stop() {
    this.running()?.stop();
  }

  /** The answer in the making among the messages that are shown. */
  running() {
    const last = tree.path(this.current).at(-1);
    return last && this.#running.get(last.id);
  }

  /** Shows a message's sibling, `by` places further. */
  step(id, by) {
    const among = tree.siblings(this.current, id);
    const next = among[among.indexOf(id) + by];
    if (!next) return;
    tree.choose(this.current, next);
    this.#save(this.current.id);
    this.#tell("path");
  }

  /** Removes a message and all behind it. */
  removeMessage(id) {
    for (const [running, generation] of this.#running) {
      if (tree.pathTo(this.current, running).some((node) => node.id === id)) generation.stop();
    }
    tree.remove(this.current, id);
    this.#save(this.current.id);
    this.#tell("path");
  }

  /** Gives a conversation another title. */
  rename(id, title) {
    const conversation = this.conversations.get(id);
    conversation.title = title.trim() || conversation.title;
    this.#save(id);
    this.#tell("list");
  }

  /** Removes a conversation; what is returned brings it back. */
  removeConversation(id) {
    const conversation = this.conversations.get(id);
    for (const node of Object.values(conversation.nodes)) this.#running.get(node.id)?.stop();
    this.conversations.delete(id);
    clearTimeout(this.#unsaved.get(id));
    this.#unsaved.delete(id);
    this.kept.remove(id).catch((error) => this.#tell("unkept", error));
    this.#tell("list");
    if (this.current.id === id) this.open("");
    return () => this.adopt(conversation);
  }

  /** Another tab has changed a conversation, or removed it (null). */
  #changedElsewhere(id, conversation) {
    const isBusy = [...this.#running.values()].some(
      ({ answer }) => this.conversations.get(id)?.nodes[answer.id] === answer,
    );
    if (isBusy) return;
    if (conversation) this.conversations.set(id, conversation);
    else this.conversations.delete(id);
    this.#tell("list");
    if (this.current.id !== id) return;
    this.current = conversation ?? this.current;
    if (conversation) this.#tell("opened");
    else this.open("");
  }

  /** Takes in a conversation from elsewhere. */
  adopt(conversation) {
    closeInterrupted(conversation);
    this.conversations.set(conversation.id, conversation);
    this.#save(conversation.id);
    this.#tell("list");
    this.open(conversation.id);
  }

  /** Sets the system prompt or tools of the conversation that is shown, and of those to come. */
  setFrame(name, text) {
    this.current[name] = text;
    this.settings.set(name, text);
    if (this.conversations.has(this.current.id)) this.#changed(this.current);
  }

  #ask(parent, message) {
    const { id } = tree.add(this.current, parent, message);
    if (!this.conversations.has(this.current.id)) {
      this.conversations.set(this.current.id, this.current);
      history.replaceState(null, "", `#${this.current.id}`);
    }
    this.#answer(id);
    this.#tell("list");
  }

  #answer(parent) {
    const before = tree.pathTo(this.current, parent);
    const answer = tree.add(this.current, parent, newAnswer(this.server.model()?.id ?? ""));
    this.#run(this.current, answer, before);
  }

  async #run(conversation, answer, messages) {
    const generation = new Generation(answer);
    this.#running.set(answer.id, generation);
    this.#save(conversation.id);
    this.#tell("path");
    await generation.run(
      this.api,
      bodyFor(messages, { ...this.settings.all, model: answer.model }, conversation),
      () => {
        this.#tell("answer", answer);
        this.#changed(conversation);
      },
    );
    this.#running.delete(answer.id);
    this.#save(conversation.id);
    this.#tell("answer", answer);
    // A server that has gone, or wants a key, is told of at the top as well.
    if (answer.error) this.server.look();
  }

  /** Keeps a conversation that is being added to, at most once in a while. */
  #changed(conversation) {
    const { id } = conversation;
    if (this.#unsaved.has(id) || !this.conversations.has(id)) return;
    this.#unsaved.set(
      id,
      setTimeout(() => this.#save(id), SAVE_EVERY_MS),
    );
  }

  #save(id) {
    clearTimeout(this.#unsaved.get(id));
    this.#unsaved.delete(id);
    const conversation = this.conversations.get(id);
    if (conversation) this.kept.put(conversation).catch((error) => this.#tell("unkept", error));
  }

  #saveAll() {
    for (const id of [...this.#unsaved.keys()]) this.#save(id);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
