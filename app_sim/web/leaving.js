// Carries out the log-outs that are wished, again and again until the bridge has confirmed each.

import { pauseMs, verdict } from "./core/wishes.js";
import { ask } from "./http.js";

const WITHIN_MS = 6000;
const AT_ONCE_MS = 1000;
const REFUSED_MS = 300_000;
const MOST = 4; // a browser has six connections to a server

export class Leaver {
  // `wishes` gives those that are open; `told(uid, token, verdict)` hears of each answer.
  constructor(wishes, told) {
    Object.assign(this, { wishes, told, timer: 0, all_at: 0, tried_at: 0, tries: new Map() });
  }

  // Try now: something has changed, or the network may be back.
  now() {
    this.stop();
    this.#turn(true);
  }

  stop() {
    clearTimeout(this.timer);
  }

  // What is under way for this user need not come to an end.
  drop(uid) {
    this.tries.get(uid)?.forEach((one) => one.abort());
    this.tries.delete(uid);
  }

  #turn(anew) {
    const now = Date.now();
    const open = this.wishes();
    // A token that was refused is tried rarely: the bridge counts wrong ones.
    const all = anew || now - this.all_at > REFUSED_MS;
    if (all) this.all_at = now;
    if (!(now - this.tried_at < AT_ONCE_MS) || open.some((wish) => !this.tries.has(wish.uid))) {
      this.tried_at = now;
      open.filter((wish) => all || !wish.refused).forEach((wish) => this.#try(wish));
    }
    if (open.length) this.timer = setTimeout(() => this.#turn(false), pauseMs(Math.random()));
  }

  // The next try does not wait for this one, which may hang.
  async #try({ uid, token }) {
    const under_way = this.tries.get(uid) ?? [];
    this.tries.set(uid, under_way);
    if (under_way.length >= MOST) under_way.shift().abort();
    const mine = new AbortController();
    under_way.push(mine);
    // With keepalive the last one survives the page.
    const said = { token, body: { uid }, within_ms: WITHIN_MS, signal: mine.signal, keepalive: true };
    const answer = await ask("/api/auth/logout", said);
    if (under_way.includes(mine)) under_way.splice(under_way.indexOf(mine), 1);
    if (!mine.signal.aborted) this.told(uid, token, verdict(answer));
  }
}
