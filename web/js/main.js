// The page begins here.

import { App } from "./app.js";
import { Server } from "./chat/server.js";
import { Api } from "./net/api.js";
import { openConversations } from "./store/conversations.js";
import { browserStorage, Drafts, Settings } from "./store/settings.js";
import { Bar } from "./ui/bar.js";
import { Composer } from "./ui/composer.js";
import { listenToKeys } from "./ui/keys.js";
import { Notices, toast } from "./ui/notices.js";
import { Panel } from "./ui/panel.js";
import { Sidebar } from "./ui/sidebar.js";
import { applyTheme } from "./ui/theme.js";
import { Thread } from "./ui/thread.js";

const storage = browserStorage();
const settings = new Settings(storage);
applyTheme(settings);

const api = new Api(() => settings.get("key"));
const app = new App({
  settings,
  drafts: new Drafts(storage),
  kept: await openConversations(),
  api,
  server: new Server(api, () => settings.get("model")),
});

const place = (id) => document.getElementById(id);
const sidebar = new Sidebar(app, place("sidebar"), place("scrim"));
const panel = new Panel(app, place("panel"));
const thread = new Thread(app, place("thread"), place("announcer"));
const composer = new Composer(app, place("composer"));
new Notices(app, place("notices"));
new Bar(app, place("bar"), { sidebar, panel });
listenToKeys(app, { sidebar, panel, composer, thread });

app.addEventListener("unkept", () => toast("The browser has no room to keep this conversation."));
await app.start();
composer.focus();
