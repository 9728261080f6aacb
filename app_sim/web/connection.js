// One socket to the bridge that comes back: after a fall with jitter, at once when phone or network wake up.

import { SUBPROTOCOL, address, comesBack, waitMs } from "./protocol.js";

const PROBE_MS = 4000;
const UNANSWERED = 3;

export class Connection {
  // `on` is told: {kind: "connecting" | "open" | "waiting" (ms) | "closed" (code, reason) | "message" (message)}.
  constructor({ origin, uid, token, client, on }) {
    this.url = address(origin, uid, client);
    this.protocols = token ? [SUBPROTOCOL, token] : [SUBPROTOCOL];
    this.on = on;
    this.attempt = 0;
    this.seq = 0;
    this.over = false;
    this.timers = { again: 0, beat: 0, probe: 0 };
  }

  start() {
    this.over = false;
    this.#open();
  }

  stop() {
    this.over = true;
    Object.values(this.timers).forEach(clearTimeout);
    this.#let_go();
  }

  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  // The page is seen again, or there is a network again: is the socket still one?
  wake() {
    if (this.over) return;
    if (this.socket?.readyState !== WebSocket.OPEN) {
      if (this.socket?.readyState !== WebSocket.CONNECTING) this.#open();
      return;
    }
    this.#beat();
    clearTimeout(this.timers.probe);
    // A phone that slept may hold a socket that nobody holds at the other end.
    this.timers.probe = setTimeout(() => this.#open(), PROBE_MS);
  }

  #open() {
    Object.values(this.timers).forEach(clearTimeout);
    this.#let_go();
    this.on({ kind: "connecting" });
    const socket = (this.socket = new WebSocket(this.url, this.protocols));
    socket.onmessage = (event) => this.#hear(JSON.parse(event.data));
    socket.onclose = (event) => this.#closed(event);
  }

  #let_go() {
    if (!this.socket) return;
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = undefined;
  }

  #hear(message) {
    clearTimeout(this.timers.probe);
    this.unanswered = 0;
    if (message.type === "connection_established") {
      this.attempt = 0;
      this.interval_ms = message.heartbeat_interval_s * 1000;
      this.on({ kind: "open" });
      this.#beat();
    }
    this.on({ kind: "message", message });
  }

  #beat() {
    clearTimeout(this.timers.beat);
    // A connection can be dead without anybody saying so; a page cannot ping.
    if (this.unanswered >= UNANSWERED) {
      this.#open();
      return;
    }
    this.unanswered += 1;
    this.send({ type: "heartbeat", seq: (this.seq += 1) });
    this.timers.beat = setTimeout(() => this.#beat(), this.interval_ms);
  }

  #closed({ code, reason }) {
    Object.values(this.timers).forEach(clearTimeout);
    this.socket = undefined;
    this.over = !comesBack(code);
    this.on({ kind: "closed", code, reason, over: this.over });
    if (this.over) return;
    const ms = waitMs(this.attempt, Math.random());
    this.attempt += 1;
    this.on({ kind: "waiting", ms });
    this.timers.again = setTimeout(() => this.#open(), ms);
  }
}
