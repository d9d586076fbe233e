// Conversations in the browser's database, or in memory where there is none.

import { isSound } from "../chat/tree.js";

const DATABASE = "tidemill";
const TABLE = "conversations";

/** Opens the place where conversations are kept. Never fails: without a database they last as long as the page. */
export async function openConversations(factory = globalThis.indexedDB) {
  try {
    const opening = factory.open(DATABASE, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { keyPath: "id" });
    return new Kept(await done(opening));
  } catch {
    return new Passing();
  }
}

class Kept {
  isLasting = true;
  #others = new BroadcastChannel(DATABASE);

  constructor(database) {
    this.database = database;
    // Another tab with a newer page wants to change the database.
    database.onversionchange = () => database.close();
  }

  async all() {
    const found = await done(this.#table("readonly").getAll());
    return found.filter(isSound);
  }

  async put(conversation) {
    await done(this.#table("readwrite").put(conversation));
    this.#others.postMessage(conversation.id);
  }

  async remove(id) {
    await done(this.#table("readwrite").delete(id));
    this.#others.postMessage(id);
  }

  /** Tells of what other tabs change: the id, and the conversation or null. */
  onChange(tell) {
    this.#others.onmessage = async ({ data: id }) => {
      let found;
      try {
        found = await done(this.#table("readonly").get(id));
      } catch {
        // A newer page has taken the database over: what is here stays as it is.
        return;
      }
      tell(id, found && isSound(found) ? found : null);
    };
  }

  #table(mode) {
    return this.database.transaction(TABLE, mode).objectStore(TABLE);
  }
}

class Passing {
  isLasting = false;
  #found = new Map();

  async all() {
    return [...this.#found.values()].map((conversation) => structuredClone(conversation));
  }

  async put(conversation) {
    this.#found.set(conversation.id, structuredClone(conversation));
  }

  async remove(id) {
    this.#found.delete(id);
  }

  onChange() {}
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("the database is in use by another version of this page"));
  });
}
