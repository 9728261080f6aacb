// Carries out requested log-outs, repeatedly until the bridge has confirmed each.

import { CLOSE } from "./core/codes.js";
import { isForeign, pauseMs, verdict } from "./core/wishes.js";
import { ask } from "./http.js";
import { SUBPROTOCOL, messageOf } from "./protocol.js";

const WITHIN_MS = 15_000;
const SOCKET_WITHIN_MS = 2500;
const AT_ONCE_MS = 1000;
const REFUSED_MS = 300_000;
const FOREIGN_MS = 10_000; // after this, the connection to a server that is not the bridge is closed
const VERDICTS = { [CLOSE.LOGGED_OUT]: "done", [CLOSE.UNAUTHORISED]: "refused", [CLOSE.BAD_MESSAGE]: "void" };
const MOST = 4; // a browser has six connections to a server

export class Leaver {
  // `wishes` gives those that are open, `address` a user's socket; `told(uid, token, verdict)` hears of each answer.
  constructor({ wishes, address, told }) {
    this.wishes = wishes;
    this.address = address;
    this.told = told;
    this.timer = this.all_at = this.tried_at = this.foreign_at = this.count = 0;
    /** @type {Map<string, AbortController[]>} */
    this.tries = new Map();
    this.unsure = new Set(); // users of a connection that may yet come about, after the log-out was said
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
    if (open.length) this.timer = setTimeout(() => this.#turn(false), pauseMs(this.count, Math.random()));
    this.count = open.length ? this.count + 1 : 0;
  }

  // The next try does not wait for this one, which may hang.
  async #try({ uid, token }) {
    const under_way = this.tries.get(uid) ?? [];
    this.tries.set(uid, under_way);
    if (under_way.length >= MOST) under_way.shift()?.abort();
    const mine = new AbortController();
    under_way.push(mine);
    const foreign = Date.now() - this.foreign_at < FOREIGN_MS;
    const meant = await (foreign ? this.#on_a_socket(uid, token, mine.signal) : this.#by_http(uid, token, mine.signal));
    if (under_way.includes(mine)) under_way.splice(under_way.indexOf(mine), 1);
    if (!mine.signal.aborted) this.told(uid, token, meant);
  }

  async #by_http(uid, token, signal) {
    // With keepalive the last one survives the page.
    const said = { token, body: { uid }, within_ms: WITHIN_MS, signal, keepalive: true };
    const answer = await ask("/api/auth/logout", said);
    if (isForeign(answer)) this.foreign_at = Date.now();
    return verdict(answer);
  }

  async #on_a_socket(uid, token, signal) {
    const said = await say_on_socket(this.address(uid), token, signal);
    if (said === "cut") this.unsure.add(uid);
    return said === "cut" ? "again" : said;
  }
}

// The first word on a new connection. "cut": it may yet come in, and say nothing.
function say_on_socket(address, token, signal) {
  return new Promise((over) => {
    let here = false;
    const socket = new WebSocket(address, token ? [SUBPROTOCOL, token] : [SUBPROTOCOL]);
    const end = (meant) => {
      clearTimeout(timer);
      socket.onmessage = socket.onclose = null;
      socket.close();
      over(meant);
    };
    const timer = setTimeout(() => end("cut"), SOCKET_WITHIN_MS);
    signal.addEventListener("abort", () => end("cut"));
    socket.onmessage = ({ data }) => {
      const type = messageOf(data)?.type;
      if (type === "connection_established") socket.send('{"type":"logout"}');
      else if (type === "logout_ack") end("done");
      here = true;
    };
    socket.onclose = ({ code }) => end(VERDICTS[code] ?? (here ? "cut" : "again"));
  });
}
