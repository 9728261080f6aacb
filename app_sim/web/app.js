// The page: brings together what is decided in core/, what the bridge says, what other tabs do and what a person wants.

import { Connection } from "./connection.js";
import { Calls, isOver } from "./core/calls.js";
import { Leading, TICK_MS } from "./core/leading.js";
import { screenOf } from "./core/showing.js";
import { isUid, linkOf, ownerOf, userOf } from "./core/users.js";
import { Wishes } from "./core/wishes.js";
import { ask } from "./http.js";
import { Leaver } from "./leaving.js";
import { address } from "./protocol.js";
import * as push from "./push.js";
import { messageOf, whyRefused } from "./refused.js";
import * as ring from "./ring.js";
import { Storage } from "./storage.js";
import { Tabs } from "./tabs.js";
import { $, View } from "./view.js";

const NOBODY = { phase: "connecting", seconds: 0, sessions: [], notice: null, leaves_at: null, pushes: null };
const SAID_WITHIN_MS = 2000;
const SURELY_MS = 3000;
const SOON_MS = 350;
const SETTLED_MS = 500;

const store = new Storage();
const leading = new Leading(random_name());
const tabs = new Tabs("sarvis", hear);
const leaver = new Leaver({ wishes: () => wishes.list, address: (uid) => address(location.origin, uid, client()), told: judged });

let user = userOf(store.get("user"));
let wishes = new Wishes(store.get("wishes"));
let calls = new Calls(store.get("calls"));
const answered = new Set(); // the ids of calls that a person has seen
let state = { ...NOBODY }; // what the tab that leads tells all others
let connection = null; // only in the tab that leads
let pairing = null; // the Jetson to log in on as soon as there is a connection
let question = null; // another user, whom a link is for
let slow = false; // a log-out takes longer than a person expects
let saying = 0; // until the log-out that was said on the socket is answered
let ticked_at = Date.now();
let people_at = 0; // when the tabs last told each other who is here
let settling = 0;
let led = false;
let followed = null; // the tab that leads, if it is another one
let away = false; // the browser has put this page aside

const view = new View(store.get("language"), () => ({
  user, wishes, calls, state, question, slow, keeps: store.keeps,
}));

function random_name() {
  // crypto.randomUUID is for pages with HTTPS only.
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The tabs. One leads: it holds the socket, says the log-outs and rings.

function hear(data) {
  if (data.leading) lead(leading.hear(data.leading, Date.now()));
  else if (data.people) {
    people_at = Date.now();
    wishes = new Wishes(data.people.wishes);
    if (!store.keeps) store.set("user", data.people.user);
    arrive(userOf(data.people.user), data.notice);
  } else if (data.pushes !== undefined) {
    if (leading.leads) agree_on_pushes(data.pushes);
  } else if (data.seen) {
    if (leading.leads) say_seen(data.seen);
    seen(data.seen);
  }
  else if (data.newcomer && leading.leads) {
    // What this tab cannot store, another one cannot read.
    if (!store.keeps) tabs.post({ people: { user, wishes: wishes.stored() }, notice: null });
    tell();
  }
  else if (data.state && !leading.leads) {
    if (!store.keeps) store.set("calls", data.calls);
    recall(data.calls);
    state = data.state;
    if (data.rings) view.announce(data.rings);
    view.render();
  }
}

// Says what `leading` wants the other tabs to hear, and acts when the lead has come or gone.
function lead(messages) {
  messages.forEach((message) => tabs.post({ leading: message }));
  if (leading.leader !== followed) {
    followed = leading.leader;
    // A browser gives a tab that stood still nothing of what was said meanwhile.
    if (followed) {
      freshen();
      tabs.post({ newcomer: true });
    }
  }
  if (leading.leads === led) return;
  led = leading.leads;
  if (leading.leads) {
    store.set("leader", leading.id);
    freshen();
    if (state.phase !== "over") state.phase = "connecting";
    leaver.now();
  } else {
    if (leading.role === "out") store.forget("leader");
    drop();
  }
  act();
}

// False: another tab took over while this one stood still, and has not been heard yet.
function still_leads() {
  const leader = store.get("leader");
  return leading.leads && (leader === null || leader === leading.id);
}

function tick() {
  look_around();
  ticked_at = Date.now();
  if (leading.leads && !still_leads()) lead(leading.doubt(Date.now()));
  else lead(leading.tick(Date.now()));
}

// A tab that stood still was told nothing, and does not know that it stood still.
function look_around() {
  if (Math.abs(Date.now() - ticked_at) > 3 * TICK_MS) freshen();
}

// Another tab may have been told what this one was not: while it was frozen, for one.
function freshen() {
  // What another tab writes is read here some moments later, one name after the other.
  if (!store.keeps || Date.now() - people_at < SETTLED_MS) return;
  const next = userOf(store.get("user"));
  const open = new Wishes(store.get("wishes"));
  recall();
  if (JSON.stringify([next, open.list]) === JSON.stringify([user, wishes.list])) return;
  wishes = open;
  arrive(next);
}

function settle() {
  clearTimeout(settling);
  settling = setTimeout(freshen, 2 * SETTLED_MS);
}

// The calls as they are kept; the tab that leads writes them.
function recall(kept = store.get("calls")) {
  calls = new Calls(kept);
  calls.seen([...answered]);
}

function keep_calls() {
  store.set("calls", calls.stored());
}

function change(changed) {
  state = { ...state, ...changed };
  view.render();
  if (leading.leads) tell();
}

function tell(rings) {
  tabs.post({ state, rings, calls: calls.stored() });
}

// Who is here, who is leaving

// In all tabs, from now on. `next`: a user or null; `acts`: a person wants it, here.
function become(next, notice = null, acts = false) {
  people_at = Date.now();
  store.set("user", next);
  store.set("wishes", wishes.stored());
  if (acts && leading.role !== "out") take_lead();
  tabs.post({ people: { user: next, wishes: wishes.stored() }, notice });
  arrive(next, notice);
  if (acts) take_lead();
}

function arrive(next, notice = null) {
  const other = next?.uid !== user?.uid;
  const same = !other && next?.token === user?.token;
  user = userOf(next);
  if (other) {
    // What rang is nobody else's business.
    store.forget("calls");
    calls = new Calls(null);
    ring.unnotify();
    ring.hush();
    pairing = question = null;
    $("token").value = $("uid").value = "";
  }
  state = { ...(same ? state : NOBODY), notice };
  if (state.phase === "over") state.phase = "connecting";
  act();
  if (other && !user) push.leave(is_nobody_here);
}

// What must be done is done, what must not is ended.
function act() {
  const needed = !away && (user || wishes.list.length);
  if (needed && leading.role === "out") setTimeout(tick, SOON_MS);
  lead(needed ? leading.enter(Date.now(), visible()) : leading.leave());
  const here = leading.leads && user && !wishes.of(user.uid) && state.phase !== "over";
  const fits = connection && connection.uid === user?.uid && connection.token === user.token;
  if (!saying && (!here || !fits)) drop();
  if (here && !connection) connect();
  if (!leading.leads) leaver.stop();
  view.render();
}

function drop() {
  clearTimeout(saying);
  saying = 0;
  connection?.stop();
  connection = null;
}

function connect() {
  const mine = new Connection({
    origin: location.origin, uid: user.uid, token: user.token, client: client(),
    on: (event) => {
      look_around();
      if (connection === mine) told(event);
    },
  });
  connection = mine;
  mine.start();
}

// The name of this browser at the bridge.
function client() {
  const kept = store.get("client");
  if (typeof kept === "string" && /^[\w-]{1,64}$/.test(kept)) return kept;
  store.set("client", `web-${random_name()}`);
  return store.get("client");
}

function log_in(next) {
  const wish = wishes.of(next.uid);
  if (wish) {
    // The log-out comes first: whoever connects is there.
    next.returns = true;
    if (next.token) Object.assign(wish, { token: next.token, refused: false });
  }
  become(next, null, true);
  if (wishes.list.length) leaver.now();
}

// Whoever acts leads: the tab that did may stand still.
function take_lead() {
  if (!leading.leads) lead(leading.claim(Date.now()));
}

function log_out() {
  wishes.add(user);
  pairing = null;
  seen(calls.shown().map((one) => one.id));
  ring.unnotify();
  const { uid } = user;
  delete user.returns;
  slow = false;
  setTimeout(() => { slow = true; view.render(); }, SAID_WITHIN_MS);
  if (connection && !connection.established) leaver.unsure.add(uid);
  if (connection?.send({ type: "logout" })) {
    connection.hush();
    saying = setTimeout(() => { drop(); leaver.now(); }, SAID_WITHIN_MS);
  }
  state.phase = "connecting";
  become(user, null, true);
  push.leave(is_nobody_here);
  if (!saying) leaver.now();
}

// What the bridge has said to a log-out.
function judged(uid, token, verdict) {
  if (!wishes.judge(uid, token, verdict)) return;
  if (verdict === "done") gone(uid, token);
  else if (verdict === "void") gone(uid, token, "code_4504");
  else become(user?.uid === uid ? null : user); // the wish stays, and says so
}

function gone(uid, token, notice = "code_4501") {
  wishes.settle(uid);
  leaver.drop(uid);
  clearTimeout(saying);
  saying = 0;
  if (leaver.unsure.delete(uid)) setTimeout(surely, SURELY_MS, uid, token);
  if (user?.uid !== uid) become(user, ["gone", uid]);
  else if (user.returns) become({ uid, token: user.token });
  else become(null, notice);
}

// A connection that was on its way at the log-out may have come in after it.
function surely(uid, token) {
  if (user?.uid !== uid) ask("/api/auth/logout", { token, body: { uid } });
}

// What the connection tells

function told(event) {
  if (!still_leads()) return;
  if (event.kind === "message") heard[event.message.type]?.(event.message, event.age);
  else if (event.kind === "waiting") change({ phase: "waiting", seconds: Math.ceil(event.ms / 1000) });
  else if (event.kind === "closed") closed(event);
  else if (event.kind === "open") change({ phase: "open", notice: isCode(state.notice) ? null : state.notice });
  else change({ phase: event.kind });
}

function closed({ code, reason, over }) {
  if (code === 1006) whyRefused().then((text) => text && state.phase !== "open" && change({ notice: ["code_refused", text] }));
  if (saying && code !== 4501) {
    drop();
    leaver.now();
  }
  if (!over || (user && wishes.of(user.uid) && code !== 4501)) return;
  const { uid, token } = connection ?? user;
  connection = null;
  if (code === 4501) gone(uid, token);
  else if (code === 4503 && user.token !== token) act();
  else if (code === 4503 && user.before) become({ uid, token: user.before }, "link_refused");
  // Without a token it is the bridge that cannot be used so, and it says why.
  else if (code === 4503 && !token && messageOf(reason)) become(null, ["code_refused", messageOf(reason)]);
  else if (code === 4503 || code === 4504) become(null, `code_${code}`);
  else change({ phase: "over", notice: `code_${code}` });
}

// Why there was no connection.
const isCode = (notice) => [notice].flat()[0]?.startsWith("code_") ?? false;

const heard = {
  connection_established(message) {
    if (user.before) become({ uid: user.uid, token: user.token });
    recall();
    const missed = list(message.missed);
    missed.forEach((wake) => calls.miss({ id: wake.id, device: wake.device_id, at: wake.received_at ?? null }));
    keep_calls();
    if (visible()) ring.unnotify_over(missed.map((wake) => wake.id), calls.shown().map((one) => one.id));
    change({ phase: "open", sessions: list(message.sessions), leaves_at: Date.now() + message.heartbeat_timeout_s * 1000 });
    if (pairing) pair(pairing);
    agree_on_pushes();
  },
  heartbeat_ack(message) {
    change({ leaves_at: Date.now() + message.expires_in_s * 1000 });
  },
  voice_command(message, age) {
    const made = { id: message.id, device: message.device_id, at: message.received_at ?? message.timestamp };
    recall(); // another tab may have rung
    if (isOver(message, age)) {
      calls.miss(made); // and no ack: the bridge counts it as missed, too
      keep_calls();
      change({});
      return;
    }
    const fresh = calls.ring(made, Date.now());
    keep_calls();
    // Also for one that has rung: the bridge repeats it until it knows.
    connection.send({ type: "ack", id: message.id });
    if (fresh) call(made, Date.now() + message.ttl_ms - (age ?? 0));
  },
  wake_seen({ id }) {
    seen([id]);
    tabs.post({ seen: [id] });
  },
  session_began({ session }) {
    const others = state.sessions.filter((one) => one.device_id !== session.device_id);
    change({ sessions: [...others, session], notice: null });
  },
  session_ended(message) {
    const sessions = state.sessions.filter((one) => one.device_id !== message.device_id);
    change({ sessions, notice: ["ended", message.device_id, message.reason] });
  },
  logout_ack() {
    gone(connection.uid, connection.token);
  },
  error(message) {
    change({ notice: ["text", message.message] });
  },
};

const list = (value) => (Array.isArray(value) ? value : []);

// A call

async function call(made, until) {
  view.render();
  view.announce(made);
  tell(made);
  if (await ring.wasPushed(made.id).catch(() => false)) return; // the service worker has rung for it
  if (Date.now() >= until) return;
  ring.vibrate();
  ring.sound(until);
  ring.notify(made.id, view.say.who(made.device), view.clock(made.at));
}

function answer() {
  const ids = calls.answer(Date.now());
  tabs.post({ seen: ids });
  if (leading.leads) say_seen(ids);
  seen(ids);
}

// So that other phones stop ringing; an older bridge does not understand it.
function say_seen(ids) {
  if (connection?.tells_time) ids.forEach((id) => connection.send({ type: "seen", id }));
}

// A person has seen these calls: here, in another tab or on another phone.
function seen(ids) {
  ids.forEach((id) => answered.add(id));
  calls.seen(ids);
  if (leading.leads) keep_calls();
  ring.unnotify(ids);
  if (!calls.shown().length) ring.hush();
  view.render();
}

// What a person wants

function pair(device) {
  pairing = connection?.send({ type: "login", device_id: device }) ? null : device;
  take_lead();
}

function again() {
  state = { ...state, phase: "connecting", notice: null };
  take_lead();
  act();
}

function submit(event) {
  event.preventDefault();
  ring.unlock();
  const token = $("token").value.trim();
  const uid = token ? ownerOf(token) : $("uid").value.trim();
  if (!isUid(uid)) {
    change({ notice: token ? "bad_token" : uid ? "code_4504" : "no_user" });
    (token ? $("token") : $("uid")).focus();
    return;
  }
  log_in({ uid, token: token || null });
  ask_to_notify();
}

// A link with the token, from whoever runs the system: #token=... is never sent to a server, nor left to be seen.
function follow_link() {
  if (!location.hash) return;
  const link = linkOf(location.hash, user);
  history.replaceState(null, "", location.pathname + location.search);
  if (!link) return;
  if (link.kind === "cut") change({ notice: "cut_link" });
  else if (link.kind === "enter" || screenOf(user, wishes) !== "home") log_in(link.user);
  else question = link.user;
  view.render();
  if (question) $("other-yes").focus();
}

function change_user() {
  const next = question;
  question = null;
  wishes.add(user);
  log_in(next);
}

// Notifications

async function ask_to_notify() {
  await globalThis.Notification?.requestPermission?.().catch(() => null);
  view.render();
}

// Who has wished to be logged out is not here any more, whenever the bridge hears of it.
const who_is_here = () => {
  const here = userOf(store.get("user"));
  return here && screenOf(here, wishes) === "home" ? here : null;
};
const is_here = (one) => who_is_here()?.uid === one.uid;
const is_nobody_here = () => who_is_here() === null;

// Browser, bridge and the person's wish; said by the tab that leads.
async function agree_on_pushes(wished = null) {
  if (!leading.leads || !connection) return;
  const given = [user, store, is_here];
  const pushes = await (wished === null ? push.agree(...given) : push.wish(...given, wished));
  if (!connection) return;
  const notice = wished && !pushes?.on ? "push_failed" : state.notice;
  change(pushes ? { pushes, notice } : { notice });
}

function want_pushes(wished) {
  if (leading.leads) agree_on_pushes(wished);
  else tabs.post({ pushes: wished });
}

// What happens

const visible = () => document.visibilityState === "visible";

$("login").addEventListener("submit", submit);
$("pair").addEventListener("submit", (event) => {
  event.preventDefault();
  pair($("device").value.trim());
  $("device").value = "";
});
// A click of a mouse or finger has a count, one of a key has none.
$("call-seen").addEventListener("click", ({ detail }) => { if (detail > 0 || view.may_answer_by_key()) answer(); });
$("connect").addEventListener("click", again);
$("logout").addEventListener("click", log_out);
$("other-yes").addEventListener("click", change_user);
$("other-no").addEventListener("click", () => { question = null; view.render(); });
$("notify").addEventListener("click", ask_to_notify);
$("push").addEventListener("click", () => want_pushes(!state.pushes?.on));
$("try").addEventListener("click", () => { ring.vibrate(); ring.sound(); });
$("language").addEventListener("click", () => store.set("language", view.turn()));

// Phones freeze what is not seen; a network comes and goes.
function awake() {
  away = false;
  freshen();
  act();
  lead(leading.seen(visible(), Date.now()));
  if (visible()) ring.unlock();
  if (!leading.leads) return;
  connection?.wake();
  if (wishes.list.length) leaver.now();
  // Somebody may have been in the browser's settings.
  if (visible() && state.phase === "open") agree_on_pushes();
}

function asleep() {
  away = true;
  act();
}

document.addEventListener("visibilitychange", () => (visible() ? awake() : lead(leading.seen(false, Date.now()))));
document.addEventListener("resume", awake);
document.addEventListener("freeze", asleep);
addEventListener("pageshow", awake);
addEventListener("pagehide", asleep);
addEventListener("online", () => { awake(); view.render(); });
addEventListener("offline", () => view.render());
addEventListener("storage", settle);
addEventListener("hashchange", follow_link);
// Browsers differ in which of these gives a page its sound.
["pointerdown", "pointerup", "click", "keydown"].forEach((name) => addEventListener(name, ring.unlock));
addEventListener("error", ({ message }) => failed(message));
addEventListener("unhandledrejection", ({ reason }) => failed(reason?.message ?? String(reason)));
setInterval(tick, TICK_MS);
setInterval(() => view.render(), 15_000);

// Whatever went wrong: it is said, and no state is shown that nobody is in.
function failed(message) {
  state.notice = ["failed", message];
  if (leading.leads && !connection && state.phase === "connecting") state.phase = "over";
  view.render();
}

calls.forget_old(Date.now()).forEach((id) => answered.add(id));
ring.prepare(() => view.render(), register());
tabs.post({ newcomer: true });
follow_link();
act();
push.watchPermission(() => { view.render(); agree_on_pushes(); });

async function register() {
  return (await navigator.serviceWorker?.register("sw.js")) ?? null;
}
