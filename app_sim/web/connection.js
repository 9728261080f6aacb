// One socket to the bridge that reconnects: with jitter after a loss, at once when phone or network return.

import { CLOSE, SUBPROTOCOL, comesBack } from "./core/codes.js";
import { BridgeClock, SteadyClock } from "./core/clock.js";
import { address, askedWaitMs, messageOf, waitMs } from "./protocol.js";

const ESTABLISH_MS = 10_000;
const IMPATIENT_MS = 4000;
const PROBE_MS = 4000;
const UNANSWERED = 3;
const INTERVAL_MS = 30_000; // if the bridge says none

const clock = new SteadyClock(() => performance.now(), () => Date.now());

export class Connection {
  // `on` is told: {kind: "connecting" | "open" | "waiting" (ms) | "closed" (code, reason, over) | "message" (message, age)}.
  constructor({ origin, uid, token, client, on }) {
    this.uid = uid;
    this.token = token;
    this.url = address(origin, uid, client);
    this.protocols = token ? [SUBPROTOCOL, token] : [SUBPROTOCOL];
    this.on = on;
    this.attempt = 0;
    this.over = false;
    this.established = false;
    this.unanswered = 0; // heartbeats
    this.interval_ms = INTERVAL_MS;
    this.opened_at = 0;
    this.clock = new BridgeClock();
    /** @type {WebSocket | undefined} */
    this.socket = undefined;
    this.timers = { again: 0, beat: 0, probe: 0, establish: 0 };
  }

  start() {
    this.over = false;
    this.#open();
  }

  stop() {
    this.over = true;
    this.#rest();
    this.#letGo();
  }

  // False: there is no connection to say it on.
  send(message) {
    if (!this.established || this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  // Whether it is a bridge that tells its time: one that understands all that this page says.
  get tells_time() {
    return this.established && this.clock.offset !== null;
  }

  // Send no more heartbeats and do not reconnect; an open connection stays open for an answer.
  hush() {
    this.over = true;
    this.#rest();
  }

  // The page is seen again, or there is a network again: is the socket still one?
  wake() {
    if (this.over) return;
    if (!this.established) {
      if (!this.socket) return this.#open();
      // What is on its way may be on its way through a network that is gone.
      clearTimeout(this.timers.establish);
      const left = IMPATIENT_MS - (clock.now() - this.opened_at);
      this.timers.establish = setTimeout(() => this.#open(), Math.max(0, left));
      return;
    }
    this.#beat();
    clearTimeout(this.timers.probe);
    // A phone that slept may hold a socket that the server has closed.
    this.timers.probe = setTimeout(() => this.#open(), PROBE_MS);
  }

  #open() {
    this.#rest();
    this.#letGo();
    this.on({ kind: "connecting" });
    this.opened_at = clock.now();
    this.clock = new BridgeClock();
    let socket;
    try {
      socket = new WebSocket(this.url, this.protocols);
    } catch {
      this.#closed({ code: CLOSE.BAD_MESSAGE, reason: "" }); // no address, or no token, that can be said
      return;
    }
    this.socket = socket;
    socket.onmessage = (event) => this.#hear(event.data);
    socket.onclose = (event) => this.#closed(event);
    // A network that swallows everything never says that there is no answer.
    this.timers.establish = setTimeout(() => this.#giveUp(), ESTABLISH_MS);
  }

  #giveUp() {
    this.#letGo();
    this.#closed({ code: 1006, reason: "" });
  }

  #rest() {
    Object.values(this.timers).forEach(clearTimeout);
  }

  #letGo() {
    this.established = false;
    if (!this.socket) return;
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = undefined;
  }

  #hear(data) {
    const message = messageOf(data);
    if (!message) return;
    clearTimeout(this.timers.probe);
    this.unanswered = 0;
    if (message.type === "connection_established") {
      clearTimeout(this.timers.establish);
      this.attempt = 0;
      this.established = true;
      this.interval_ms = message.heartbeat_interval_s > 0 ? message.heartbeat_interval_s * 1000 : INTERVAL_MS;
      this.clock.answered(this.opened_at, message.clock_ms);
      this.on({ kind: "open" });
      if (!this.over) this.#beat();
    } else if (message.type === "heartbeat_ack") {
      this.clock.answered(message.seq, message.clock_ms);
    }
    this.on({ kind: "message", message, age: this.clock.age(message, clock.now()) });
  }

  #beat() {
    clearTimeout(this.timers.beat);
    // A connection can be dead without anybody saying so; a page cannot ping.
    if (this.unanswered >= UNANSWERED) {
      this.#open();
      return;
    }
    this.unanswered += 1;
    this.send({ type: "heartbeat", seq: Math.floor(clock.now()) });
    this.timers.beat = setTimeout(() => this.#beat(), this.interval_ms);
  }

  #closed({ code, reason }) {
    this.#rest();
    this.established = false;
    this.socket = undefined;
    const over = this.over || !comesBack(code);
    this.over = over;
    this.on({ kind: "closed", code, reason, over });
    if (over || this.over) return;
    const ms = askedWaitMs(reason) + waitMs(this.attempt, Math.random());
    this.attempt += 1;
    this.on({ kind: "waiting", ms });
    this.timers.again = setTimeout(() => this.#open(), ms);
  }
}
