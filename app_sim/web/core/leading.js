// Which of the open tabs acts: one holds the socket and rings, the others show its state.
// A leader shows life, and answers when it is asked: a hidden tab's timers may wait a minute, its messages do not.
// A tab that stands still does neither, so another one takes over. The newest claim wins.

export const TICK_MS = 1000;
const FIRST_WAIT_MS = 300;
const FRESH_MS = 1500;
const SILENT_MS = 4000;
const UNANSWERED = 2;

// Each method returns the messages for the other tabs. `now` is in ms since 1970, the same in all tabs.
export class Leading {
  constructor(id) {
    this.id = id;
    this.visible = true;
    /** @type {"out" | "asking" | "following" | "leading"} */
    this.role = "out";
    /** @type {string | null} the tab that leads, if it is another one */
    this.leader = null;
    this.term = this.asks = this.heard_at = this.asked_at = this.ticked_at = 0;
  }

  get leads() {
    return this.role === "leading";
  }

  enter(now, visible) {
    if (this.role !== "out") return [];
    Object.assign(this, { role: "asking", visible, asked_at: now, ticked_at: now });
    return [this.#message("ask")];
  }

  leave() {
    const messages = this.leads ? [this.#message("left")] : [];
    Object.assign(this, { role: "out", term: 0, leader: null, heard_at: 0, asks: 0 });
    return messages;
  }

  // A person acts in this tab, or it is the one to act for another reason.
  claim(now) {
    Object.assign(this, { role: "leading", leader: null });
    this.term = Math.max(this.term + 1, now);
    return [this.#message("life")];
  }

  // Another tab seems to lead, though this one has not heard it.
  doubt(now) {
    Object.assign(this, { role: "asking", asked_at: now, leader: null });
    return [this.#message("ask")];
  }

  // To be called each TICK_MS; later calls are understood, too.
  tick(now) {
    const stood_still = now - this.ticked_at > 3 * TICK_MS || now < this.ticked_at;
    this.ticked_at = now;
    if (this.leads) return [this.#message("life")];
    if (this.role === "asking") return now - this.asked_at >= FIRST_WAIT_MS ? this.claim(now) : [];
    if (this.role !== "following") return [];
    if (stood_still && this.visible) {
      // It was this tab that heard nothing: the leader gets its time anew.
      Object.assign(this, { heard_at: now, asks: 0 });
    } else if (this.asks >= UNANSWERED && now - this.heard_at >= SILENT_MS) {
      return this.claim(now);
    }
    if (now - this.heard_at < FRESH_MS && !stood_still) return [];
    this.asks += 1;
    return [this.#message("ask")];
  }

  // This tab is seen now, or no longer.
  seen(visible, now) {
    this.visible = visible;
    if (this.leads) return [this.#message("life")];
    if (this.role !== "following" || !visible) return [];
    Object.assign(this, { heard_at: Math.min(this.heard_at, now - FRESH_MS), ticked_at: now });
    return [this.#message("ask")];
  }

  hear(message, now) {
    if (this.role === "out" || message.from === this.id) return [];
    if (message.kind === "ask") return this.leads ? [this.#message("life")] : [];
    if (message.kind === "left") return this.#left(message, now);
    if (message.kind !== "life" || !(message.term > 0)) return [];
    if (this.leads && !this.#is_beaten_by(message)) return [this.#message("life")];
    if (this.leader !== message.from && !this.#is_beaten_by(message)) return [];
    Object.assign(this, { role: "following", leader: message.from, term: message.term, heard_at: now, asks: 0 });
    // Sound and vibration are for the tab that a person sees, and clicks in.
    return this.visible && !message.visible ? this.claim(now) : [];
  }

  #left(message, now) {
    if (this.role !== "following" || message.from !== this.leader) return [];
    this.leader = null;
    if (this.visible) return this.claim(now);
    Object.assign(this, { role: "asking", asked_at: now });
    return [];
  }

  #is_beaten_by({ term, from }) {
    if (term !== this.term) return term > this.term;
    return from < (this.leads ? this.id : (this.leader ?? "~"));
  }

  #message(kind) {
    return { kind, from: this.id, term: this.term, visible: this.visible };
  }
}
