// A conversation is a tree: editing a message or asking again makes a sibling, and nothing is lost.
//
// A conversation: {id, title, created, updated, system, tools, roots, chosen, nodes}
//   nodes    id -> {id, parent, role, content, ..., children, chosen}
//   roots    the first messages; `chosen` is the id of the one that is shown, as in each node

/** The id of something new. */
export function newId() {
  // `crypto.randomUUID` is only there in secure contexts, which a page on a home network is not.
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A conversation without messages. */
export function newConversation({ system = "", tools = "" } = {}, now = Date.now()) {
  return { id: newId(), title: "", created: now, updated: now, system, tools, roots: [], chosen: null, nodes: {} };
}

/**
 * Adds a message behind another and shows it.
 * @param {object} conversation
 * @param {string | null} parent null for a first message
 * @param {object} message its role and content
 */
export function add(conversation, parent, message, now = Date.now()) {
  const node = { ...message, id: newId(), parent, children: [], chosen: null, created: now };
  conversation.nodes[node.id] = node;
  const place = placeOf(conversation, parent);
  list(place).push(node.id);
  place.chosen = node.id;
  conversation.updated = now;
  if (!conversation.title && node.role === "user") conversation.title = titleOf(textOf(node));
  return node;
}

/** The messages that are shown, first to last. */
export function path(conversation) {
  const shown = [];
  let id = conversation.chosen;
  while (id) {
    const node = conversation.nodes[id];
    shown.push(node);
    id = node.chosen;
  }
  return shown;
}

/** The messages up to and with this one. */
export function pathTo(conversation, id) {
  const upwards = [];
  for (let node = conversation.nodes[id]; node; node = conversation.nodes[node.parent]) upwards.push(node);
  return upwards.reverse();
}

/** The ids of a message and its alternatives, in the order in which they were made. */
export function siblings(conversation, id) {
  return list(placeOf(conversation, conversation.nodes[id].parent));
}

/** Shows a message instead of its siblings. */
export function choose(conversation, id) {
  placeOf(conversation, conversation.nodes[id].parent).chosen = id;
}

/** Removes a message and all behind it; a sibling is shown instead, if there is one. */
export function remove(conversation, id) {
  const place = placeOf(conversation, conversation.nodes[id].parent);
  const among = list(place);
  const at = among.indexOf(id);
  among.splice(at, 1);
  if (place.chosen === id) place.chosen = among[Math.min(at, among.length - 1)] ?? null;
  const doomed = [id];
  while (doomed.length) {
    const node = conversation.nodes[doomed.pop()];
    doomed.push(...node.children);
    delete conversation.nodes[node.id];
  }
}

/** What a message says, without its images. */
export function textOf(node) {
  if (typeof node.content === "string") return node.content;
  return (node.content ?? [])
    .filter((part) => part.type === "text")
    .map((part) => part.text)
    .join("\n");
}

/** The addresses of a message's images. */
export function imagesOf(node) {
  if (typeof node.content === "string") return [];
  return (node.content ?? []).filter((part) => part.type === "image_url").map((part) => part.image_url.url);
}

/** A title for a conversation that begins with this text. */
export function titleOf(text) {
  const line = text.trim().split(/\n/, 1)[0].replace(/\s+/g, " ");
  if (line.length <= 60) return line;
  const cut = line.slice(0, 60);
  const space = cut.lastIndexOf(" ");
  return `${space > 30 ? cut.slice(0, space) : cut}…`;
}

/**
 * Whether what was read from the browser's memory or a file is a conversation that the page can show and go on with.
 */
export function isSound(conversation) {
  const { nodes, roots, chosen } = conversation ?? {};
  if (typeof nodes !== "object" || nodes === null || !Array.isArray(roots)) return false;
  if (!["id", "title", "system", "tools"].every((name) => typeof conversation[name] === "string")) return false;
  if (!["created", "updated"].every((name) => Number.isFinite(conversation[name]))) return false;
  const count = Object.keys(nodes).length;
  let reached = 0;
  // A list instead of recursion: long conversations are deep.
  const places = [{ among: roots, shown: chosen, parent: null }];
  while (places.length) {
    const { among, shown, parent } = places.pop();
    if (!Array.isArray(among) || !(shown === null ? among.length === 0 : among.includes(shown))) return false;
    for (const child of among) {
      const node = Object.hasOwn(nodes, child) ? nodes[child] : null;
      reached += 1;
      if (reached > count || node?.id !== child || node.parent !== parent || !isMessage(node)) return false;
      places.push({ among: node.children, shown: node.chosen, parent: child });
    }
  }
  return reached === count;
}

function isMessage(node) {
  const areTexts = (...texts) => texts.every((text) => typeof text === "string");
  if ("roots" in node) return false;
  if (node.role === "tool") return areTexts(node.content, node.call, node.name);
  if (node.role === "user") return areTexts(node.content) || (Array.isArray(node.content) && node.content.every(isPart));
  const isCall = (call) => areTexts(call?.id, call?.name, call?.arguments);
  return (
    node.role === "assistant" &&
    areTexts(node.content, node.reasoning, node.state) &&
    Array.isArray(node.calls) &&
    node.calls.every(isCall)
  );
}

function isPart(part) {
  if (part?.type === "text") return typeof part.text === "string";
  return part?.type === "image_url" && typeof part.image_url?.url === "string";
}

function placeOf(conversation, parent) {
  return parent === null ? conversation : conversation.nodes[parent];
}

function list(place) {
  return place.roots ?? place.children;
}
