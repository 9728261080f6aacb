// The page: who is logged in here, what the bridge says, and what a person sees and hears of it.

import { Connection } from "./connection.js";
import { Calls, uidOf } from "./protocol.js";
import * as push from "./push.js";
import * as ring from "./ring.js";
import { wordsOf } from "./words.js";

const $ = (id) => document.getElementById(id);

const store = {
  get: (name) => JSON.parse(localStorage.getItem(`sarvis.${name}`) ?? "null"),
  set: (name, value) => localStorage.setItem(`sarvis.${name}`, JSON.stringify(value)),
  forget: (name) => localStorage.removeItem(`sarvis.${name}`),
};

const NOBODY = { phase: "connecting", sessions: [], call: null, notice: null, leaves_at: null, pushes: null };
const SENT_AWAY_TO_LOGIN = [4501, 4503];

let language = store.get("language") ?? (navigator.language.startsWith("ko") ? "ko" : "en");
let say = wordsOf(language);
let user = store.get("user");
let state = { ...NOBODY };
let connection = null; // only in the tab that leads
let release = null;

// One tab holds the socket and rings; the others show what it knows, and one of them takes over when it is closed.

const tabs = new BroadcastChannel("sarvis");

tabs.onmessage = ({ data }) => {
  if (data.state) {
    state = data.state;
    render();
  } else if (data.user !== undefined) {
    user = data.user;
    user ? enter() : leave(data.notice);
  } else if (connection && data.wanted) {
    actions[data.wanted](...data.with);
  } else if (connection && data.newcomer) {
    tabs.postMessage({ state });
  }
};

function change(changed) {
  state = { ...state, ...changed };
  render();
  if (connection) tabs.postMessage({ state });
}

function want(action, ...given) {
  if (connection) actions[action](...given);
  else tabs.postMessage({ wanted: action, with: given });
}

function enter() {
  state = { ...NOBODY, phase: "follower" };
  render();
  const lead = () => new Promise((over) => { release = over; connect(); });
  navigator.locks ? navigator.locks.request("sarvis", () => (user ? lead() : undefined)) : lead();
  if (!connection) tabs.postMessage({ newcomer: true });
}

function leave(notice = null) {
  connection?.stop();
  connection = null;
  release?.();
  release = null;
  state = { ...NOBODY, notice };
  render();
  $("token").value = "";
  push.leave(() => store.get("user") === null);
  ring.end();
}

function connect() {
  const client = store.get("client") ?? `web-${crypto.randomUUID()}`;
  store.set("client", client);
  connection = new Connection({ origin: location.origin, uid: user.uid, token: user.token, client, on: told });
  state = { ...NOBODY };
  connection.start();
}

// What the connection tells

function told(event) {
  if (event.kind === "message") heard[event.message.type]?.(event.message);
  else if (event.kind === "waiting") change({ phase: "waiting", seconds: Math.ceil(event.ms / 1000) });
  else if (event.kind === "closed") closed(event);
  else change({ phase: event.kind, notice: event.kind === "open" ? null : state.notice });
}

function closed({ code, over }) {
  if (!over) return;
  if (SENT_AWAY_TO_LOGIN.includes(code)) forgetUser(`code_${code}`);
  else change({ phase: "over", notice: `code_${code}` });
}

const heard = {
  connection_established(message) {
    remember(message.missed.map((wake) => ({ id: wake.id, device: wake.device_id, at: wake.timestamp, missed: true })));
    change({ sessions: message.sessions, leaves_at: Date.now() + message.heartbeat_timeout_s * 1000 });
    agreeOnPushes();
  },
  heartbeat_ack(message) {
    change({ leaves_at: Date.now() + message.expires_in_s * 1000 });
  },
  voice_command(message) {
    const [fresh] = remember([{ id: message.id, device: message.device_id, at: message.timestamp, missed: false }]);
    // Also for one that has rung: the bridge repeats it until it knows.
    connection.send({ type: "ack", id: message.id });
    if (fresh) call(fresh);
  },
  session_began({ session }) {
    const others = state.sessions.filter((one) => one.device_id !== session.device_id);
    change({ sessions: [...others, session], notice: null });
  },
  session_ended(message) {
    const sessions = state.sessions.filter((one) => one.device_id !== message.device_id);
    change({ sessions, notice: ["ended", message.device_id, message.reason] });
  },
  error(message) {
    change({ notice: { text: message.message } });
  },
};

function remember(calls) {
  const known = new Calls(store.get("calls"));
  const fresh = calls.filter((one) => known.add(one));
  store.set("calls", known.stored());
  return fresh;
}

async function call(made) {
  change({ call: made });
  if (await ring.wasPushed(made.id)) return; // the service worker has rung for it
  ring.vibrate();
  ring.sound();
  ring.notify(made.id, say.who(made.device), clock(made.at));
}

// What a person wants; done by the tab that leads

const actions = {
  pair(device) {
    connection.send({ type: "login", device_id: device });
  },
  seen() {
    ring.end([state.call?.id]);
    change({ call: null });
  },
  pushes(wished) {
    agreeOnPushes(wished);
  },
  again() {
    change({ notice: null });
    connection.start();
  },
  async logout() {
    if (connection.send({ type: "logout" })) return; // 4501 does the rest
    const headers = { "content-type": "application/json" };
    if (user.token) headers.authorization = `Bearer ${user.token}`;
    await fetch("/api/auth/logout", { method: "POST", headers, body: JSON.stringify({ uid: user.uid }) });
    forgetUser("code_4501");
  },
};

function forgetUser(notice) {
  store.forget("user");
  store.forget("calls");
  user = null;
  tabs.postMessage({ user, notice });
  leave(notice);
}

function logIn(event) {
  event.preventDefault();
  ring.unlock();
  const token = $("token").value.trim();
  const uid = token ? uidOf(token) : $("uid").value.trim();
  if (!uid) {
    change({ notice: token ? "bad_token" : "no_user" });
    (token ? $("token") : $("uid")).focus();
    return;
  }
  user = { uid, token: token || null };
  store.set("user", user);
  tabs.postMessage({ user });
  enter();
  askToNotify();
}

// Notifications

async function askToNotify() {
  await globalThis.Notification?.requestPermission?.();
  render();
}

const isHere = (one) => store.get("user")?.uid === one.uid;

// Browser, bridge and the person's wish; said by the tab that leads.
async function agreeOnPushes(wished = null) {
  const given = user && connection && [user, store, isHere];
  const pushes = given && (await (wished === null ? push.agree(...given) : push.wish(...given, wished)));
  if (!connection) return;
  const notice = wished && !pushes?.on ? "push_failed" : state.notice;
  change(pushes ? { pushes, notice } : { notice });
}

// What a person sees

function clock(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  const today = at.toDateString() === new Date().toDateString();
  return at.toLocaleString(language, { ...(today ? {} : { dateStyle: "short" }), timeStyle: "medium" });
}

function sentence(notice) {
  if (notice === null) return "";
  if (notice.text) return notice.text;
  const [name, ...given] = [notice].flat();
  return typeof say[name] === "function" ? say[name](...given) : say[name];
}

function line(left, at, missed) {
  const item = document.createElement("li");
  const what = document.createElement("strong");
  what.textContent = left;
  item.append(what);
  if (at) {
    const time = document.createElement("time");
    time.dateTime = at;
    time.textContent = clock(at);
    item.append(time);
  }
  if (missed) {
    item.className = "missed";
    what.dataset.missed = say.missed;
  }
  return item;
}

// Screen readers read a text again whenever it is set.
function tell(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function render() {
  document.documentElement.lang = language;
  document.title = say.name;
  document.querySelectorAll("[data-say]").forEach((one) => { one.textContent = say[one.dataset.say]; });
  tell("language", say.other_language);
  $("language").lang = language === "ko" ? "en" : "ko";
  tell("notice", sentence(state.notice));
  $("login").hidden = user !== null;
  $("home").hidden = user === null;
  renderCall();
  if (user) renderHome();
}

function renderCall() {
  const was = $("call").hidden;
  $("call").hidden = !state.call;
  if (!state.call) return;
  tell("call-who", say.who(state.call.device));
  tell("call-when", clock(state.call.at));
  if (was) $("call-seen").focus();
}

function renderHome() {
  const phase = navigator.onLine || state.phase === "open" ? state.phase : "offline";
  tell("state", phase === "over" ? "" : sentence(phase === "waiting" ? ["waiting", state.seconds] : phase));
  $("connect").hidden = phase !== "over";
  const minutes = state.leaves_at && Math.max(0, Math.floor((state.leaves_at - Date.now()) / 60_000));
  tell("left", state.sessions.length && minutes !== null ? say.left(minutes) : "");
  $("devices").replaceChildren(...state.sessions.map((one) => line(one.device_id)));
  $("no-devices").hidden = state.sessions.length > 0;
  const { list } = new Calls(store.get("calls"));
  $("calls").replaceChildren(...list.map((one) => line(one.device, one.at, one.missed)));
  $("no-calls").hidden = list.length > 0;
  const may = globalThis.Notification?.permission;
  $("notify").hidden = may !== "default";
  $("push").hidden = !state.pushes?.offered || may !== "granted";
  $("push").setAttribute("aria-pressed", String(state.pushes?.on === true));
  tell("ring-state", { granted: say.notify_on, denied: say.notify_denied, default: "" }[may] ?? say.notify_none);
}

$("login").addEventListener("submit", logIn);
$("pair").addEventListener("submit", (event) => {
  event.preventDefault();
  want("pair", $("device").value.trim());
  $("device").value = "";
});
$("call-seen").addEventListener("click", () => { ring.unlock(); want("seen"); });
$("connect").addEventListener("click", () => { ring.unlock(); want("again"); });
$("logout").addEventListener("click", () => want("logout"));
$("notify").addEventListener("click", askToNotify);
$("push").addEventListener("click", () => want("pushes", !state.pushes?.on));
$("try").addEventListener("click", () => { ring.unlock(); ring.vibrate(); ring.sound(); });
$("language").addEventListener("click", () => {
  language = language === "ko" ? "en" : "ko";
  say = wordsOf(language);
  store.set("language", language);
  render();
});

// Phones freeze what is not seen; a network comes and goes.
function awake() {
  if (document.visibilityState !== "visible") return;
  connection?.wake();
  // Somebody may have been in the browser's settings.
  if (state.phase === "open") agreeOnPushes();
}
document.addEventListener("visibilitychange", awake);
document.addEventListener("resume", awake);
addEventListener("pageshow", awake);
addEventListener("online", () => { connection?.wake(); render(); });
addEventListener("offline", render);
addEventListener("pointerdown", ring.unlock, { once: true });
setInterval(render, 15_000);
push.watchPermission(() => { render(); agreeOnPushes(); });

// A link with the token, from whoever runs the system: #token=... is never sent to a server.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given && uidOf(given)) {
  user = { uid: uidOf(given), token: given };
  store.set("user", user);
  history.replaceState(null, "", location.pathname);
}

navigator.serviceWorker?.register("sw.js").catch(() => null);
user ? enter() : render();
