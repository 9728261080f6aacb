// The page: wires the bridge's events, other tabs, the browser and the user's actions to the modules that handle them.

import { act, arrive, comeBack, connectAgain, leadChanged, listen, logOut, pair, putAside, retry } from "./account.js";
import { answer, seenInATab } from "./calling.js";
import { TICK_MS } from "./core/leading.js";
import { onEvent } from "./events.js";
import { follow, hear, settle, showVisible, tick } from "./leader.js";
import { followLink, learnLogin, watchLogin } from "./login.js";
import { agreeOnPushes, askToNotify, wantPushes, watchPermission } from "./notifications.js";
import * as ring from "./ring.js";
import { answered, leading, page, store, tabs, view, visible } from "./state.js";
import { $, input } from "./view.js";

const RENDER_MS = 15_000;

follow({ arrive, changed: leadChanged });
listen(onEvent);
tabs.listen((data) => {
  if (data.seen) seenInATab(data.seen);
  else if (data.pushes === undefined) hear(data);
  else if (leading.leads) agreeOnPushes(data.pushes);
});

// A person

watchLogin();
$("pair").addEventListener("submit", (event) => {
  event.preventDefault();
  pair(input("device").value.trim());
  input("device").value = "";
});
// A click of a mouse or finger has a count, one of a key has none.
$("call-seen").addEventListener("click", ({ detail }) => { if (detail > 0 || view.may_answer_by_key()) answer(); });
$("connect").addEventListener("click", connectAgain);
$("logout").addEventListener("click", logOut);
$("notify").addEventListener("click", askToNotify);
$("push").addEventListener("click", () => wantPushes(!page.shared.pushes?.on));
$("try").addEventListener("click", () => { ring.vibrate(); ring.sound(); });
$("language").addEventListener("click", () => store.set("language", view.turn()));

// The browser: phones freeze what is not seen; a network comes and goes.

function awake() {
  comeBack();
  if (!$("login").hidden) learnLogin();
  showVisible();
  if (visible()) ring.unlock();
  if (!leading.leads) return;
  retry();
  // Somebody may have been in the browser's settings.
  if (visible() && page.shared.phase === "open") agreeOnPushes();
}

document.addEventListener("visibilitychange", () => (visible() ? awake() : showVisible()));
document.addEventListener("resume", awake);
document.addEventListener("freeze", putAside);
addEventListener("pageshow", awake);
addEventListener("pagehide", putAside);
addEventListener("online", () => { awake(); view.render(); });
addEventListener("offline", () => view.render());
addEventListener("storage", settle);
// Browsers differ in which of these gives a page its sound.
["pointerdown", "pointerup", "click", "keydown"].forEach((name) => addEventListener(name, ring.unlock));
addEventListener("error", ({ message }) => failed(message));
addEventListener("unhandledrejection", ({ reason }) => failed(reason?.message ?? String(reason)));
setInterval(tick, TICK_MS);
setInterval(() => view.render(), RENDER_MS);

// Shows an error that nothing has caught. Without a connection the page does not go on to say that it connects.
function failed(message) {
  page.shared.notice = ["failed", message];
  if (leading.leads && !page.connection && page.shared.phase === "connecting") page.shared.phase = "over";
  view.render();
}

page.calls.forget_old(Date.now()).forEach((id) => answered.add(id));
ring.prepare(() => view.render(), register());
tabs.post({ newcomer: true });
followLink();
learnLogin();
act();
watchPermission();

async function register() {
  return (await navigator.serviceWorker?.register("sw.js")) ?? null;
}
