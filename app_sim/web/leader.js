// Tab leadership: one tab holds the socket, sends the log-outs and rings. core/leading.js decides which.

import { TICK_MS } from "./core/leading.js";
import { userOf } from "./core/users.js";
import { Wishes } from "./core/wishes.js";
import { leading, page, recallCalls, store, tabs, tell, view, visible } from "./state.js";

const SETTLED_MS = 500;

/** @type {{arrive: (next: any, notice?: any) => void, changed: (leads: boolean) => void}} */
let account;
let ticked_at = Date.now();
let people_at = 0; // when the tabs last told each other who is here
let settling = 0;
let led = false;
/** @type {string | null} */
let followed = null; // the tab that leads, if it is another one

// `arrive(next, notice)`: another tab says who is here. `changed(leads)`: this tab leads from now on, or no longer.
export function follow(given) {
  account = given;
}

// What another tab says of who is here, what a person wants or who leads.
export function hear(data) {
  if (data.leading) lead(leading.hear(data.leading, Date.now()));
  else if (data.people) {
    peopleWereTold();
    page.wishes = new Wishes(data.people.wishes);
    if (!store.keeps) store.set("user", data.people.user);
    account.arrive(userOf(data.people.user), data.notice);
  } else if (data.newcomer && leading.leads) {
    // What this tab cannot store, another one cannot read.
    if (!store.keeps) tabs.post({ people: { user: page.user, wishes: page.wishes.stored() }, notice: null });
    tell();
  } else if (data.state && !leading.leads) {
    if (!store.keeps) store.set("calls", data.calls);
    recallCalls(data.calls);
    page.shared = data.state;
    if (data.rings) view.announce(data.rings);
    view.render();
  }
}

export function peopleWereTold() {
  people_at = Date.now();
}

// Says what `leading` wants the other tabs to hear, and acts when the lead has come or gone.
export function lead(messages) {
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
    if (page.shared.phase !== "over") page.shared.phase = "connecting";
  } else if (leading.role === "out") store.forget("leader");
  account.changed(leading.leads);
}

// The tab in which a person acts leads: the one that did may stand still.
export function takeLead() {
  if (!leading.leads) lead(leading.claim(Date.now()));
}

// False: another tab took over while this one stood still, and has not been heard yet.
export function stillLeads() {
  const leader = store.get("leader");
  return leading.leads && (leader === null || leader === leading.id);
}

export function tick() {
  lookAround();
  ticked_at = Date.now();
  if (leading.leads && !stillLeads()) lead(leading.doubt(Date.now()));
  else lead(leading.tick(Date.now()));
}

// A tab that stood still was told nothing, and does not know that it stood still.
export function lookAround() {
  if (Math.abs(Date.now() - ticked_at) > 3 * TICK_MS) freshen();
}

// Another tab may have been told what this one was not: while it was frozen, for one.
export function freshen() {
  // What another tab writes is read here some moments later, one name after the other.
  if (!store.keeps || Date.now() - people_at < SETTLED_MS) return;
  const next = userOf(store.get("user"));
  const open = new Wishes(store.get("wishes"));
  recallCalls();
  if (JSON.stringify([next, open.list]) === JSON.stringify([page.user, page.wishes.list])) return;
  page.wishes = open;
  account.arrive(next);
}

// Another tab has stored something.
export function settle() {
  clearTimeout(settling);
  settling = setTimeout(freshen, 2 * SETTLED_MS);
}

// This page is seen now, or no longer.
export function showVisible() {
  lead(leading.seen(visible(), Date.now()));
}
