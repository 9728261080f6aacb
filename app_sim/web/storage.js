// The page's storage. If the browser blocks it, or it is full or damaged, this tab keeps the values in memory.

const PREFIX = "sarvis.";
const LEAST = "calls"; // gives way when there is no room for the rest

export class Storage {
  constructor() {
    this.memory = new Map(); // what could not be kept
    try {
      /** @type {globalThis.Storage | null} null: the browser blocks it */
      this.kept = globalThis.localStorage ?? null;
    } catch {
      this.kept = null;
    }
  }

  // False: something is lost when the page is closed.
  get keeps() {
    return this.kept !== null && this.memory.size === 0;
  }

  // Any value; the caller checks it. null: nothing is stored.
  get(name) {
    if (this.memory.has(name)) return this.memory.get(name);
    try {
      return JSON.parse(this.kept?.getItem(PREFIX + name) ?? "null");
    } catch {
      return null;
    }
  }

  set(name, value) {
    if (value === null) return this.forget(name);
    if (this.#write(name, value)) return;
    // The stored value is out of date and takes room.
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
    if (!this.kept) return false;
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
      this.kept?.removeItem(PREFIX + name);
    } catch {
      // Nothing is there.
    }
  }
}
