// A call rings until the user has seen it: here, in another tab or on another phone.

import * as ring from "./ring.js";
import { answered, keepCalls, leading, page, recallCalls, tabs, tell, view, visible } from "./state.js";

// A wake of the bridge is stored. False: it has rung, perhaps in another tab.
export function take(made) {
  recallCalls();
  const fresh = page.calls.ring(made, Date.now());
  keepCalls();
  return fresh;
}

// These came too late, or while no app was connected: they are listed, silently.
export function listMissed(wakes) {
  recallCalls();
  wakes.forEach((wake) => page.calls.miss(wake));
  keepCalls();
}

// The phone's own list of notifications need not show what the page shows.
export function tidyNotifications(wakes) {
  if (visible()) ring.unnotifyOver(wakes.map((wake) => wake.id), page.calls.shown().map((one) => one.id));
}

// Rings, until then at the most (ms since 1970).
export async function show(made, until) {
  view.render();
  view.announce(made);
  tell(made);
  if (await ring.wasPushed(made.id).catch(() => false)) return; // the service worker has rung for it
  if (Date.now() >= until) return;
  ring.vibrate();
  ring.sound(until);
  ring.notify(made.id, view.say.who(made.device), view.clock(made.at));
}

// A person has pressed the button.
export function answer() {
  const ids = page.calls.answer(Date.now());
  tabs.post({ seen: ids });
  seenInATab(ids);
}

// Here or in another tab. The bridge is told, so that other phones stop ringing; an older one does not understand it.
export function seenInATab(ids) {
  const { connection } = page;
  if (leading.leads && connection?.tells_time) ids.forEach((id) => connection.send({ type: "seen", id }));
  seen(ids);
}

// A person has seen these calls, here or elsewhere.
export function seen(ids) {
  ids.forEach((id) => answered.add(id));
  page.calls.seen(ids);
  if (leading.leads) keepCalls();
  ring.unnotify(ids);
  if (!page.calls.shown().length) ring.hush();
  view.render();
}
