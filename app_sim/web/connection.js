// One socket to the bridge that comes back: after a fall with jitter, at once when phone or network wake up.

import { BridgeClock, SteadyClock } from "./core/clock.js";
import { SUBPROTOCOL, address, comesBack, messageOf, waitMs } from "./protocol.js";

const ESTABLISH_MS = 10_000;
const IMPATIENT_MS = 4000;
const PROBE_MS = 4000;
const UNANSWERED = 3;
const INTERVAL_MS = 30_000; // if the bridge says none
const NOT_SENT_AT_ALL = 4504;

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
    this.timers = { again: 0, beat: 0, probe: 0, establish: 0 };
  }

  start() {
    this.over = false;
    this.#open();
  }

  stop() {
    this.over = true;
    this.#rest();
    this.#let_go();
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

  // No sign of life any more, and no way back; what is open stays open, for an answer.
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
    // A phone that slept may hold a socket that nobody holds at the other end.
    this.timers.probe = setTimeout(() => this.#open(), PROBE_MS);
  }

  #open() {
    this.#rest();
    this.#let_go();
    this.on({ kind: "connecting" });
    this.opened_at = clock.now();
    this.clock = new BridgeClock();
    let socket;
    try {
      socket = new WebSocket(this.url, this.protocols);
    } catch {
      this.#closed({ code: NOT_SENT_AT_ALL, reason: "" }); // no address, or no token, that can be said
      return;
    }
    this.socket = socket;
    socket.onmessage = (event) => this.#hear(event.data);
    socket.onclose = (event) => this.#closed(event);
    // A network that swallows everything never says that there is no answer.
    this.timers.establish = setTimeout(() => this.#given_up(), ESTABLISH_MS);
  }

  #given_up() {
    this.#let_go();
    this.#closed({ code: 1006, reason: "" });
  }

  #rest() {
    Object.values(this.timers).forEach(clearTimeout);
  }

  #let_go() {
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
    const ms = waitMs(this.attempt, Math.random());
    this.attempt += 1;
    this.on({ kind: "waiting", ms });
    this.timers.again = setTimeout(() => this.#open(), ms);
  }
}
