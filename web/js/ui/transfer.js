// Conversations to a file and back.

import { isSound } from "../chat/tree.js";
import { h } from "./h.js";
import { toast } from "./notices.js";

/** Saves all conversations as a file. */
export function exportAll(app) {
  const text = JSON.stringify({ tidemill: 1, conversations: [...app.conversations.values()] }, null, 1);
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const day = new Date().toISOString().slice(0, 10);
  h("a", { href: url, download: `tidemill-${day}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Reads such a file; conversations that are there already are replaced. */
export function importFrom(app) {
  const input = h("input", { type: "file", accept: "application/json,.json" });
  input.addEventListener("change", async () => {
    try {
      const { conversations } = JSON.parse(await input.files[0].text());
      const sound = conversations.filter(isSound);
      for (const conversation of sound) app.adopt(conversation);
      toast(`${sound.length} of ${conversations.length} conversations were read.`);
    } catch {
      toast("This file holds no conversations.");
    }
  });
  input.click();
}
