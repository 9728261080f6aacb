// Handles the connection's events: the bridge's messages, and how a socket opens, waits and closes.

import { act, become, gone, leaveOtherwise, pair } from "./account.js";
import { listMissed, seen, show, take, tidyNotifications } from "./calling.js";
import { isOver } from "./core/calls.js";
import { CLOSE } from "./core/codes.js";
import { stillLeads } from "./leader.js";
import { agreeOnPushes } from "./notifications.js";
import { messageOf, whyRefused } from "./refused.js";
import { how } from "./ring.js";
import { change, page, tabs } from "./state.js";

// See Connection: {kind, ...}.
export function onEvent(event) {
  if (!stillLeads()) return;
  if (event.kind === "message") messages[event.message.type]?.(event.message, event.age);
  else if (event.kind === "waiting") change({ phase: "waiting", seconds: Math.ceil(event.ms / 1000) });
  else if (event.kind === "closed") closed(event);
  else if (event.kind === "open") change({ phase: "open", notice: isCode(page.shared.notice) ? null : page.shared.notice });
  else change({ phase: event.kind });
}

function closed({ code, reason, over }) {
  if (code === 1006) whyRefused().then((text) => text && page.shared.phase !== "open" && change({ notice: ["code_refused", text] }));
  if (code !== CLOSE.LOGGED_OUT) leaveOtherwise();
  const { user } = page;
  if (!over || (user && page.wishes.of(user.uid) && code !== CLOSE.LOGGED_OUT)) return;
  const { uid, token } = page.connection ?? user ?? {};
  page.connection = null;
  if (code === CLOSE.LOGGED_OUT) gone(uid, token);
  else if (code === CLOSE.UNAUTHORISED && user?.token !== token) act();
  else if (code === CLOSE.UNAUTHORISED && user?.before) become({ uid, token: user.before }, "link_refused");
  // Without a token it is the bridge that cannot be used so, and it says why.
  else if (code === CLOSE.UNAUTHORISED && !token && messageOf(reason)) become(null, ["code_refused", messageOf(reason)]);
  else if (code === CLOSE.UNAUTHORISED || code === CLOSE.BAD_MESSAGE) become(null, `code_${code}`);
  else change({ phase: "over", notice: `code_${code}` });
}

// Why there was no connection.
const isCode = (notice) => [notice].flat()[0]?.startsWith("code_") ?? false;

const list = (value) => (Array.isArray(value) ? value : []);

/** @type {Record<string, (message: any, age: number | null) => void>} */
const messages = {
  connection_established(message) {
    if (page.user?.before) become({ uid: page.user.uid, token: page.user.token });
    const missed = list(message.missed);
    listMissed(missed.map((wake) => ({ id: wake.id, device: wake.device_id, at: wake.received_at ?? null })));
    tidyNotifications(missed);
    const { heartbeat_timeout_s, token_expires_in_s } = message;
    change({
      phase: "open",
      sessions: list(message.sessions),
      leaves_at: Date.now() + heartbeat_timeout_s * 1000,
      token_ends_at: typeof token_expires_in_s === "number" ? Date.now() + token_expires_in_s * 1000 : null,
    });
    if (page.pairing) pair(page.pairing);
    agreeOnPushes();
  },
  heartbeat_ack(message) {
    change({ leaves_at: Date.now() + message.expires_in_s * 1000 });
  },
  voice_command(message, age) {
    const made = { id: message.id, device: message.device_id, at: message.received_at ?? message.timestamp };
    if (isOver(message, age)) {
      listMissed([made]); // and no ack: the bridge counts it as missed, too
      change({});
      return;
    }
    const fresh = take(made);
    // Also for one that has rung: the bridge repeats it until it knows.
    page.connection?.send({ type: "ack", id: message.id, how: how() });
    if (fresh) show(made, Date.now() + message.ttl_ms - (age ?? 0));
  },
  wake_seen({ id }) {
    seen([id]);
    tabs.post({ seen: [id] });
  },
  session_began({ session }) {
    const others = page.shared.sessions.filter((one) => one.device_id !== session.device_id);
    change({ sessions: [...others, session], notice: null });
  },
  session_ended(message) {
    const sessions = page.shared.sessions.filter((one) => one.device_id !== message.device_id);
    change({ sessions, notice: ["ended", message.device_id, message.reason] });
  },
  logout_ack() {
    if (page.connection) gone(page.connection.uid, page.connection.token);
  },
  error(message) {
    change({ notice: ["text", message.message] });
  },
};
