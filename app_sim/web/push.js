// Web Push for a phone that sleeps: the browser's push service wakes the service worker.
//
// That pushes come is a person's wish, kept for each user of this phone; a log-out does not end it. At each log-in and
// each connection the browser, the bridge and this wish are made to agree, and the page shows what the bridge has said.

import { ask } from "./http.js";

const KEPT = "pushes"; // {users: who wishes pushes here, endpoint: by which the bridge may know this phone, key: for which}
const USERS = 16;
const ACCOUNT = "account"; // for the service worker, which cannot read what the page keeps
const WITHIN_MS = 8000;
const SUBSCRIBED_MS = 20_000;
const RENEWED_MS = 3_600_000;

/** @type {Promise<any>} */
let turn = Promise.resolve();
let going = new AbortController();

// What is to be shown: {offered, on}; null: it is not known, or somebody else is logged in by now.
// `store` has `get` and `set`; `is_here(user)` tells whether that user is still the one.
export function agree(user, store, is_here) {
  return inTurn(() => settle(user, store, is_here));
}

// The person switches pushes on or off for this user.
export function wish(user, store, is_here, on) {
  return inTurn(() => {
    const kept = read(store);
    const users = kept.users.filter((uid) => uid !== user.uid);
    write(store, { ...kept, users: on ? [...users, user.uid].slice(-USERS) : users });
    return settle(user, store, is_here);
  });
}

// No user is logged in on this page: the phone does not ring, even if the bridge still has its subscription.
export function leave(is_logged_out) {
  going.abort();
  going = new AbortController();
  return inTurn(async () => {
    if (!is_logged_out()) return; // a tab that was suspended is told late
    await remember(null);
    const made = await (await registered())?.pushManager?.getSubscription();
    await made?.unsubscribe();
  });
}

// `on_change` is called when the person changes in the browser's settings what this page may do.
export async function watchPermission(on_change) {
  const may = await navigator.permissions?.query({ name: "notifications" }).catch(() => null);
  if (may) may.onchange = on_change;
}

function inTurn(step) {
  turn = turn.then(step).catch(() => null);
  return turn;
}

async function settle(user, store, is_here) {
  const { signal } = going;
  const stays = () => !signal.aborted && is_here(user);
  const manager = (await registered())?.pushManager;
  if (!manager) return { offered: false, on: false };
  const key = await keyOf(user, signal);
  let made = await manager.getSubscription();
  let kept = read(store);
  if (kept.fresh && made) kept = { users: [user.uid], endpoint: made.endpoint, key: null, fresh: false }; // by an older page
  const wished = kept.users.includes(user.uid);
  if (!stays()) return null;
  const may = globalThis.Notification?.permission === "granted";
  if (made && (!wished || !may || (key && !isFor(made, key, kept)) || isOver(made))) {
    kept = { ...kept, endpoint: made.endpoint };
    await made.unsubscribe().catch(() => null);
    made = null;
  }
  if (wished && key && may && !made) {
    const options = { userVisibleOnly: true, applicationServerKey: key };
    made = await Promise.race([manager.subscribe(options).catch(() => null), after(SUBSCRIBED_MS)]);
  }
  // The subscription is another user's, or of another key: the bridge deletes it.
  if (kept.endpoint && kept.endpoint !== made?.endpoint && (await say("unsubscribe", user, { endpoint: kept.endpoint }, signal))) {
    kept = { ...kept, endpoint: null };
  }
  if (!stays()) return null;
  let on = false;
  if (wished && key && made) {
    kept = { ...kept, endpoint: made.endpoint, key };
    write(store, kept); // before: who asks may hear no answer
    on = await say("subscribe", user, { subscription: made.toJSON() }, signal);
  } else {
    write(store, kept);
  }
  if (!stays()) return null;
  if (on) await remember({ uid: user.uid, token: user.token, key, endpoint: made.endpoint });
  if (!wished) await remember(null);
  return key === undefined ? null : { offered: key !== null, on };
}

// null: this bridge sends no pushes; undefined: not known yet.
async function keyOf({ token }, signal) {
  const answer = await ask("/api/push/key", { token, signal, within_ms: WITHIN_MS });
  if (typeof answer?.body?.public_key === "string") return answer.body.public_key;
  return answer?.status === 404 && answer.body?.detail !== undefined ? null : undefined;
}

async function say(what, { uid, token }, body, signal) {
  const answer = await ask(`/api/push/${what}`, { token, body: { uid, ...body }, signal, within_ms: WITHIN_MS });
  return answer?.status === 200 && answer.body?.success === true;
}

function isFor(made, key, kept) {
  const bytes = made.options?.applicationServerKey;
  if (!bytes) return !kept.key || kept.key === key;
  const text = btoa(String.fromCharCode(...new Uint8Array(bytes)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "") === key;
}

function isOver({ expirationTime }) {
  return Number.isFinite(expirationTime) && expirationTime < Date.now() + RENEWED_MS;
}

// Where there is no service worker, `ready` never comes.
async function registered() {
  if (!("PushManager" in globalThis) || !navigator.serviceWorker) return null;
  return Promise.race([navigator.serviceWorker.ready, after(WITHIN_MS)]);
}

function after(ms) {
  return new Promise((over) => { setTimeout(over, ms, null); });
}

function read(store) {
  const kept = store.get(KEPT);
  const text = (value) => (typeof value === "string" ? value : null);
  const users = Array.isArray(kept?.users) ? kept.users.filter((uid) => typeof uid === "string") : [];
  return { users, endpoint: text(kept?.endpoint), key: text(kept?.key), fresh: kept === null };
}

function write(store, { users, endpoint, key, fresh }) {
  if (!fresh || users.length || endpoint) store.set(KEPT, { users, endpoint, key });
}

async function remember(account) {
  try {
    const cache = await caches.open(ACCOUNT);
    const headers = { "content-type": "application/json" };
    await (account ? cache.put(ACCOUNT, new Response(JSON.stringify(account), { headers })) : cache.delete(ACCOUNT));
  } catch {
    // Without it the page says it when it is opened the next time.
  }
}
