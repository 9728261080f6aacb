// What the page keeps. A browser may block it, have no room, or hold what nobody can read: then this tab remembers.

const PREFIX = "sarvis.";
const LEAST = "calls"; // gives way when there is no room for the rest

export class Storage {
  constructor() {
    this.memory = new Map(); // what could not be kept
    try {
      this.kept = globalThis.localStorage ?? null;
    } catch {
      this.kept = null;
    }
  }

  // False: something is lost when the page is closed.
  get keeps() {
    return this.kept !== null && this.memory.size === 0;
  }

  // Of whatever kind: whoever asks looks at it. null: nothing there.
  get(name) {
    if (this.memory.has(name)) return this.memory.get(name);
    try {
      return JSON.parse(this.kept.getItem(PREFIX + name) ?? "null");
    } catch {
      return null;
    }
  }

  set(name, value) {
    if (value === null) return this.forget(name);
    if (this.#write(name, value)) return;
    // What stands there is not true any more, and takes room.
    this.#remove(name);
    if (name !== LEAST) {
      this.memory.set(LEAST, this.get(LEAST));
      this.#remove(LEAST);
    }
    if (this.#write(name, value)) return;
    this.memory.set(name, value);
  }

  forget(name) {
    this.memory.delete(name);
    this.#remove(name);
  }

  #write(name, value) {
    try {
      this.kept.setItem(PREFIX + name, JSON.stringify(value));
    } catch {
      return false;
    }
    this.memory.delete(name);
    return true;
  }

  #remove(name) {
    try {
      this.kept.removeItem(PREFIX + name);
    } catch {
      // Nothing is there.
    }
  }
}
