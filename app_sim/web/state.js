// The state of this tab. The tab that leads (leader.js) sends its state to the others.

import { Calls } from "./core/calls.js";
import { Leading } from "./core/leading.js";
import { userOf } from "./core/users.js";
import { Wishes } from "./core/wishes.js";
import { Storage } from "./storage.js";
import { Tabs } from "./tabs.js";
import { View } from "./view.js";

/**
 * What the tab that leads tells all others.
 * @typedef {object} Shared
 * @property {string} phase of the connection: connecting, open, waiting or over
 * @property {number} seconds until the next try, while the phase is waiting
 * @property {{device_id: string}[]} sessions
 * @property {string | any[] | null} notice a sentence of words.js, or its name and what it is about
 * @property {number | null} leaves_at when the bridge logs the user out, in ms since 1970
 * @property {number | null} token_ends_at in ms since 1970
 * @property {{offered: boolean, on: boolean} | null} pushes
 *
 * @typedef {import("./core/users.js").User} User
 */

/** @type {Shared} */
export const NOTHING_KNOWN = { phase: "connecting", seconds: 0, sessions: [], notice: null, leaves_at: null, token_ends_at: null, pushes: null };

export const store = new Storage();
export const leading = new Leading(randomName());
export const tabs = new Tabs("sarvis");

export const page = {
  /** @type {User | null} */
  user: userOf(store.get("user")),
  wishes: new Wishes(store.get("wishes")),
  calls: new Calls(store.get("calls")),
  /** @type {Shared} */
  shared: { ...NOTHING_KNOWN },
  /** @type {import("./connection.js").Connection | null} only in the tab that leads */
  connection: null,
  /** @type {string | null} the Jetson to log in on as soon as there is a connection */
  pairing: null,
  /** @type {User | null} another user, whom a link is for */
  question: null,
  slow: false, // a log-out takes longer than a person expects
  /** @type {"token" | "name" | null} what this bridge wants of a user who logs in; null: not known */
  log_in: null,
  asks_log_in: true, // the bridge has not said so yet
};

/** @type {Set<string>} the ids of calls that a person has seen */
export const answered = new Set();

export const view = new View(store.get("language"), () => ({ ...page, keeps: store.keeps }));

export const visible = () => document.visibilityState === "visible";

/** @param {Partial<Shared>} changed */
export function change(changed) {
  page.shared = { ...page.shared, ...changed };
  view.render();
  if (leading.leads) tell();
}

// To the other tabs; `rings`: a call that is new.
export function tell(rings) {
  tabs.post({ state: page.shared, rings, calls: page.calls.stored() });
}

// The calls as they are kept; the tab that leads writes them.
export function recallCalls(kept = store.get("calls")) {
  page.calls = new Calls(kept);
  page.calls.seen([...answered]);
}

export function keepCalls() {
  store.set("calls", page.calls.stored());
}

// The name of this browser at the bridge.
export function clientName() {
  const kept = store.get("client");
  if (typeof kept === "string" && /^[\w-]{1,64}$/.test(kept)) return kept;
  store.set("client", `web-${randomName()}`);
  return store.get("client");
}

function randomName() {
  // crypto.randomUUID is for pages with HTTPS only.
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
