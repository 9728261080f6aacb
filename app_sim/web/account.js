// Logs users in and out on this phone, and holds the connection while it is needed.

import { seen } from "./calling.js";
import { Connection } from "./connection.js";
import { Calls } from "./core/calls.js";
import { userOf } from "./core/users.js";
import { ask } from "./http.js";
import { freshen, lead, lookAround, peopleWereTold, takeLead, tick } from "./leader.js";
import { Leaver } from "./leaving.js";
import { leavePushes } from "./notifications.js";
import { address } from "./protocol.js";
import * as ring from "./ring.js";
import { NOTHING_KNOWN, clientName, leading, page, store, tabs, view, visible } from "./state.js";
import { input } from "./view.js";

const SAID_WITHIN_MS = 2000;
const SURELY_MS = 3000;
const SOON_MS = 350;

const leaver = new Leaver({
  wishes: () => page.wishes.list, address: (uid) => address(location.origin, uid, clientName()), told: judged,
});
let saying = 0; // until the log-out that was said on the socket is answered
let away = false; // the browser has put this page aside
/** @type {(event: any) => void} */
let on_event = () => {};

// What the connection tells goes to `listener`.
export function listen(listener) {
  on_event = listener;
}

// From now on, in all tabs: `next` is logged in, or no user (null). `acts`: a person did it in this tab.
/** @param {any} next @param {any} notice */
export function become(next, notice = null, acts = false) {
  peopleWereTold();
  store.set("user", next);
  store.set("wishes", page.wishes.stored());
  if (acts && leading.role !== "out") takeLead();
  tabs.post({ people: { user: next, wishes: page.wishes.stored() }, notice });
  arrive(next, notice);
  if (acts) takeLead();
}

// In this tab.
/** @param {any} next @param {any} notice */
export function arrive(next, notice = null) {
  const other = next?.uid !== page.user?.uid;
  const same = !other && next?.token === page.user?.token;
  page.user = userOf(next);
  if (other) {
    // Another user must not see what rang.
    store.forget("calls");
    page.calls = new Calls(null);
    ring.unnotify();
    ring.hush();
    page.pairing = page.question = null;
    input("token").value = input("uid").value = "";
  }
  page.shared = { ...(same ? page.shared : NOTHING_KNOWN), notice };
  if (page.shared.phase === "over") page.shared.phase = "connecting";
  act();
  if (other && !page.user) leavePushes();
}

// What must be done is done, what must not is ended.
export function act() {
  const needed = !away && (page.user || page.wishes.list.length);
  if (needed && leading.role === "out") setTimeout(tick, SOON_MS);
  lead(needed ? leading.enter(Date.now(), visible()) : leading.leave());
  const { user, connection } = page;
  const here = leading.leads && user && !page.wishes.of(user.uid) && page.shared.phase !== "over";
  const fits = user && connection?.uid === user.uid && connection.token === user.token;
  if (!saying && (!here || !fits)) drop();
  if (here && !page.connection) connect(user);
  if (!leading.leads) leaver.stop();
  view.render();
}

// This tab leads from now on, or no longer.
export function leadChanged(leads) {
  if (leads) leaver.now();
  else drop();
  act();
}

// The browser puts the page aside.
export function putAside() {
  away = true;
  act();
}

// The browser shows the page again, or the network is back.
export function comeBack() {
  away = false;
  freshen();
  act();
}

// The network may be back.
export function retry() {
  page.connection?.wake();
  if (page.wishes.list.length) leaver.now();
}

// The connection ended for good, and a person wants it again.
export function connectAgain() {
  page.shared = { ...page.shared, phase: "connecting", notice: null };
  takeLead();
  act();
}

function connect(user) {
  const mine = new Connection({
    origin: location.origin, uid: user.uid, token: user.token, client: clientName(),
    on: (event) => {
      lookAround();
      if (page.connection === mine) on_event(event);
    },
  });
  page.connection = mine;
  mine.start();
}

function drop() {
  clearTimeout(saying);
  saying = 0;
  page.connection?.stop();
  page.connection = null;
}

export function pair(device) {
  page.pairing = page.connection?.send({ type: "login", device_id: device }) ? null : device;
  takeLead();
}

export function logIn(next) {
  const wish = page.wishes.of(next.uid);
  if (wish) {
    // The log-out comes first: to the bridge, a user who connects is not leaving.
    next.returns = true;
    if (next.token) Object.assign(wish, { token: next.token, refused: false });
  }
  become(next, null, true);
  if (page.wishes.list.length) leaver.now();
}

// Another user takes this phone over.
export function replaceUser(next) {
  if (page.user) page.wishes.add(page.user);
  logIn(next);
}

export function logOut() {
  const { user, connection } = page;
  if (!user) return;
  page.wishes.add(user);
  page.pairing = null;
  seen(page.calls.shown().map((one) => one.id));
  ring.unnotify();
  delete user.returns;
  page.slow = false;
  setTimeout(() => { page.slow = true; view.render(); }, SAID_WITHIN_MS);
  if (connection && !connection.established) leaver.unsure.add(user.uid);
  if (connection?.send({ type: "logout" })) {
    connection.hush();
    saying = setTimeout(leaveOtherwise, SAID_WITHIN_MS);
  }
  page.shared.phase = "connecting";
  become(user, null, true);
  leavePushes();
  if (!saying) leaver.now();
}

// The socket on which the log-out was said does not answer, or has closed.
export function leaveOtherwise() {
  if (!saying) return;
  drop();
  leaver.now();
}

// What the bridge has said to a log-out.
function judged(uid, token, verdict) {
  if (!page.wishes.judge(uid, token, verdict)) return;
  if (verdict === "done") gone(uid, token);
  else if (verdict === "void") gone(uid, token, "code_4504");
  else become(page.user?.uid === uid ? null : page.user); // the wish stays, and says so
}

// The bridge has confirmed that this user is logged out.
export function gone(uid, token, notice = "code_4501") {
  page.wishes.settle(uid);
  leaver.drop(uid);
  clearTimeout(saying);
  saying = 0;
  if (leaver.unsure.delete(uid)) setTimeout(surely, SURELY_MS, uid, token);
  const { user } = page;
  if (user?.uid !== uid) become(user, ["gone", uid]);
  else if (user?.returns) become({ uid, token: user.token });
  else become(null, notice);
}

// A connection that was on its way at the log-out may have come in after it.
function surely(uid, token) {
  if (page.user?.uid !== uid) ask("/api/auth/logout", { token, body: { uid } });
}
