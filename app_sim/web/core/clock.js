// The age of a call, by the bridge's clock and this phone's.

const DRIFT_MS = 10; // between two heartbeats

// A clock that goes on while the machine sleeps and never goes back, of one that stands still and one that jumps.
export class SteadyClock {
  constructor(steady, wall) {
    this.steady = steady;
    this.wall = wall;
    this.ms = 0;
    this.last = [steady(), wall()];
  }

  now() {
    const next = [this.steady(), this.wall()];
    this.ms += Math.max(0, next[0] - this.last[0], next[1] - this.last[1]);
    this.last = next;
    return this.ms;
  }
}

// Of one connection: another bridge's clock has another zero.
export class BridgeClock {
  constructor() {
    /** @type {number | null} */
    this.offset = null;
  }

  // The bridge answered with its `clock_ms` what was asked at `asked` ms. A late answer makes calls look older, never younger.
  answered(asked, clock_ms) {
    if (!Number.isFinite(asked) || !Number.isFinite(clock_ms)) return;
    this.offset = Math.max(asked - clock_ms, this.offset === null ? -Infinity : this.offset - DRIFT_MS);
  }

  // Of a message that is handled now; null: the bridge does not tell.
  age(message, now) {
    if (this.offset === null || !Number.isFinite(message.age_ms) || !Number.isFinite(message.clock_ms)) return null;
    return message.age_ms + Math.max(0, now - message.clock_ms - this.offset);
  }
}
