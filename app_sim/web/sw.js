// The service worker: opens the page without a network, and rings for a push while no page is open.
//
// It keeps the files of one version together, or none: the bridge lists them with their fingerprints, so that nothing
// else can be taken for them, whichever server answered. Which version a page gets is decided when it is opened.

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
const CACHE = "shell";
const LIST = new URL("files.json", worker.registration.scope).href;
const ACCOUNT = "account"; // see push.js
const PATIENCE_MS = 3000;
const LONGEST_MS = 30_000;
const TURN = "sarvis.notifications"; // also in ring.js
const TURN_WITHIN_MS = 1000;
const PAGES = 50;

const scope = new URL(worker.registration.scope).pathname;
const given = new Map(); // the list by which each page was given its files; null: the network's

worker.addEventListener("install", (event) => {
  worker.skipWaiting();
  event.waitUntil(install());
});

worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));

worker.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  if (event.request.method !== "GET" || origin !== worker.location.origin || !pathname.startsWith(scope)) return;
  const name = pathname.slice(scope.length) || "index.html";
  if (event.request.mode !== "navigate") {
    event.respondWith(part(event, name));
    return;
  }
  const later = []; // what goes on when the page is there
  const answer = opened(event, name, later);
  event.respondWith(answer);
  event.waitUntil(answer.catch(() => null).then(() => Promise.allSettled(later)));
});

// Files

// Without a network the worker before this one goes on. Pushes need no kept files.
async function install() {
  const list = await newest(AbortSignal.timeout(LONGEST_MS));
  if (list) await keep(list).catch(() => null);
}

// A page is opened. The bridge's files are newer than the stored ones, but the user must not wait long for them.
async function opened(event, name, later) {
  const kept = await keptList();
  if (!kept) {
    later.push(install());
    return fetch(event.request);
  }
  const over = AbortSignal.timeout(PATIENCE_MS);
  const late = new Promise((done) => { over.onabort = () => done(kept); });
  const list = await Promise.race([choose(kept, over, later), late]);
  const file = list && (await stored(list, name));
  if (file) return give(event, list, file);
  // Somebody else answers: a log-in in front of the bridge, or a portal that wants to be seen.
  const answer = await Promise.race([fetch(event.request).catch(() => null), late]);
  if (answer?.ok || answer?.type === "opaqueredirect") return give(event, null, answer);
  return give(event, kept, (await stored(kept, name)) ?? fetch(event.request));
}

// The list by which files are given; null: what answers is not the bridge, or cannot be kept, so the network's are.
async function choose(kept, over, later) {
  const list = await newest(over).catch(() => kept);
  if (list === null || list.version === kept.version) return list;
  const keeping = keep(list).then(() => list, () => null);
  later.push(keeping);
  return keeping;
}

function give(event, list, answer) {
  given.set(event.resultingClientId, list);
  if (given.size > PAGES) given.delete(given.keys().next().value);
  return answer;
}

async function part(event, name) {
  const list = given.has(event.clientId) ? given.get(event.clientId) : await keptList();
  return (list && (await stored(list, name))) ?? fetch(event.request);
}

// What the bridge serves now: {version, files: {name: sha256}}; null if it was not the bridge who answered.
// Throws when nothing came.
async function newest(signal) {
  let answer;
  try {
    answer = await fetch(LIST, { cache: "no-store", redirect: "manual", signal });
  } catch (error) {
    throw new Error("nothing came", { cause: error });
  }
  if (answer.status >= 500) throw new Error(`status ${answer.status}`);
  const list = answer.ok ? await answer.json().catch(() => null) : null;
  if (signal.aborted) throw new Error("half of it came");
  return isList(list) ? list : null;
}

function isList(list) {
  return list?.app === "sarvis" && typeof list.version === "string" && typeof list.files?.["index.html"] === "string";
}

const keyOf = (name, fingerprint) => `${worker.registration.scope}${name}?${fingerprint}`;

async function keptList() {
  try {
    const cache = await caches.open(CACHE);
    const list = await (await cache.match(LIST))?.json();
    if (!isList(list)) return null;
    const there = new Set((await cache.keys()).map((one) => one.url));
    return Object.entries(list.files).every((one) => there.has(keyOf(...one))) ? list : null;
  } catch {
    return null; // storage is blocked or damaged
  }
}

async function stored(list, name) {
  const fingerprint = Object.hasOwn(list.files, name) && list.files[name];
  if (!fingerprint) return undefined;
  return caches.open(CACHE).then((cache) => cache.match(keyOf(name, fingerprint))).catch(() => undefined);
}

// All of these files, or an error. Those of the version before stay for pages that are just opening.
async function keep(list) {
  const cache = await caches.open(CACHE);
  const before = await keptList();
  const there = new Set((await cache.keys()).map((one) => one.url));
  await Promise.all(Object.entries(list.files).map(async ([name, fingerprint]) => {
    const key = keyOf(name, fingerprint);
    if (!there.has(key)) await cache.put(key, await fetched(name, fingerprint));
  }));
  await cache.put(LIST, new Response(JSON.stringify(list), { headers: { "content-type": "application/json" } }));
  const needed = new Set([LIST, ...[list, before].flatMap((one) => Object.entries(one?.files ?? {}).map((file) => keyOf(...file)))]);
  await Promise.all((await cache.keys()).filter((one) => !needed.has(one.url)).map((one) => cache.delete(one)));
}

async function fetched(name, fingerprint) {
  const answer = await fetch(new URL(name, worker.registration.scope), {
    cache: "no-cache", redirect: "error", signal: AbortSignal.timeout(LONGEST_MS),
  });
  const body = await answer.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (!answer.ok || found !== fingerprint) throw new Error(`${name} is not the bridge's`);
  const headers = new Headers(answer.headers);
  // The body is unpacked by now.
  ["content-encoding", "content-length"].forEach((one) => headers.delete(one));
  return new Response(body, { headers });
}

// Pushes

// A push says only that there is a call, and its id: the page fetches the rest.
worker.addEventListener("push", (event) => event.waitUntil(alone(() => ring(idIn(event.data)))));

// Not while a page shows a notification or asks which there are (ring.js says why), unless it stands still.
/** @param {() => Promise<any>} does */
async function alone(does) {
  if (!worker.navigator.locks) return does();
  let began = false;
  const signal = AbortSignal.timeout(TURN_WITHIN_MS);
  return worker.navigator.locks.request(TURN, { signal }, () => (began = true) && does()).catch((error) => {
    if (began) throw error;
    return does();
  });
}

function idIn(data) {
  try {
    const { id } = data.json();
    return typeof id === "string" ? id : "";
  } catch {
    return "";
  }
}

async function ring(id) {
  const korean = worker.navigator.language.startsWith("ko");
  // The page may have shown it, with more words.
  const [there] = id ? await worker.registration.getNotifications({ tag: id }).catch(() => []) : [];
  const title = there?.title ?? (korean ? "싸비스가 부릅니다" : "Your Jetson calls");
  const body = there?.body ?? (korean ? "누르면 열립니다" : "Tap to open");
  const options = { body, tag: id, icon: "icon-192.png", vibrate: [300, 150, 300, 150, 600], data: { id, at: Date.now() } };
  await worker.registration.showNotification(title, options);
}

worker.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(show());
});

async function show() {
  const windows = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
  const pages = windows.filter((one) => ["", "index.html"].includes(new URL(one.url).pathname.replace(scope, "")));
  const page = pages.find((one) => one.visibilityState === "visible") ?? pages[0];
  const seen = await page?.focus().catch(() => null);
  return seen ?? worker.clients.openWindow(worker.registration.scope);
}

// The push service has given up this phone's address: it gets a new one, and the bridge is told.
// Where that fails the page does it when it is opened.
worker.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(renew(event)));

async function renew({ oldSubscription, newSubscription }) {
  const account = await (await caches.open(ACCOUNT).then((cache) => cache.match(ACCOUNT)))?.json();
  if (!account) return; // no user of this browser wants pushes
  const manager = worker.registration.pushManager;
  const options = { userVisibleOnly: true, applicationServerKey: account.key };
  const made = newSubscription ?? (await manager.getSubscription()) ?? (await manager.subscribe(options));
  await say("/api/push/subscribe", account, { subscription: made.toJSON() });
  const old = oldSubscription?.endpoint ?? account.endpoint;
  if (old !== made.endpoint) await say("/api/push/unsubscribe", account, { endpoint: old });
}

function say(path, { uid, token }, body) {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const signal = AbortSignal.timeout(LONGEST_MS);
  return fetch(path, { method: "POST", headers, body: JSON.stringify({ uid, ...body }), redirect: "error", signal });
}
