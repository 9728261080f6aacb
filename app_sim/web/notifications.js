// What the user allows: notifications of the browser, and pushes to a phone that sleeps.

import { screenOf } from "./core/showing.js";
import { userOf } from "./core/users.js";
import * as push from "./push.js";
import { change, leading, page, store, tabs, view } from "./state.js";

export async function askToNotify() {
  await globalThis.Notification?.requestPermission?.().catch(() => null);
  view.render();
}

// Browser, bridge and the person's wish; said by the tab that leads. `wished`: the person switches pushes on or off.
export async function agreeOnPushes(wished = null) {
  const { user, connection } = page;
  if (!leading.leads || !connection || !user) return;
  const pushes = await (wished === null ? push.agree(user, store, isHere) : push.wish(user, store, isHere, wished));
  if (!page.connection) return;
  const notice = wished && !pushes?.on ? "push_failed" : page.shared.notice;
  change(pushes ? { pushes, notice } : { notice });
}

export function wantPushes(wished) {
  if (leading.leads) agreeOnPushes(wished);
  else tabs.post({ pushes: wished });
}

// The user has gone: this phone is not pushed to any longer.
export function leavePushes() {
  push.leave(() => whoIsHere() === null);
}

export function watchPermission() {
  push.watchPermission(() => { view.render(); agreeOnPushes(); });
}

// The one who has asked to be logged out is not here any longer, even before the bridge hears of it.
function whoIsHere() {
  const here = userOf(store.get("user"));
  return here && screenOf(here, page.wishes) === "home" ? here : null;
}

const isHere = (one) => whoIsHere()?.uid === one.uid;
