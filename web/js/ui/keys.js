// Keys that work everywhere.

import { path } from "../chat/tree.js";

/** Listens to the keyboard. The list of keys is shown in the settings. */
export function listenToKeys(app, { sidebar, panel, composer, thread }) {
  const withControl = {
    k: () => sidebar.search(),
    b: () => sidebar.toggle(),
    ",": () => panel.toggle("settings"),
    O: () => app.open(""),
  };
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.altKey) return;
    const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.ctrlKey || event.metaKey) {
      const act = withControl[event.shiftKey ? event.key.toUpperCase() : event.key];
      if (!act || (event.shiftKey && event.key.toUpperCase() !== "O")) return;
      event.preventDefault();
      act();
    } else if (event.key === "Escape") {
      if (sidebar.isOver) sidebar.toggle(false);
      else if (app.running()) app.stop();
      else if (panel.isOpen) panel.close();
    } else if (event.key === "/" && !isTyping) {
      event.preventDefault();
      composer.field.focus();
    } else if (event.key === "ArrowUp" && event.target === composer.field && !composer.field.value && !app.running()) {
      const last = path(app.current).findLast((node) => node.role === "user");
      if (!last) return;
      event.preventDefault();
      thread.view(last.id).edit();
    }
  });
}
