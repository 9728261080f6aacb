// Which calls ring, which are shown until the user has seen them, which are listed.

const KEPT = 20;
const REMEMBERED = 200;
const SHOWN_AGAIN_MS = 120_000;
const TOO_QUICK_MS = 500;

const isText = (value) => typeof value === "string";
const isCall = (one) => isText(one?.id) && isText(one.device);

// A call: {id, device, at (when the bridge received it, or null), missed, rang_at (ms since 1970, this phone's)}.
export class Calls {
  constructor(stored) {
    const list = Array.isArray(stored?.list) ? stored.list.filter(isCall) : [];
    this.list = list.slice(0, KEPT).map((one) => ({ ...one, at: isText(one.at) ? one.at : null, missed: one.missed === true }));
    this.known = Array.isArray(stored?.known) ? stored.known.filter(isText).slice(-REMEMBERED) : [];
    this.open = Array.isArray(stored?.open) ? stored.open.filter(isText) : [];
  }

  // True the first time that an id comes.
  add(call) {
    if (this.known.includes(call.id)) return false;
    this.known = [...this.known, call.id].slice(-REMEMBERED);
    // Newest first, by the bridge's clock; one without a date stands where it came.
    const at = Date.parse(call.at);
    const newer = this.list.findIndex((one) => !(Date.parse(one.at) > at));
    const place = newer < 0 ? this.list.length : newer;
    this.list = [...this.list.slice(0, place), call, ...this.list.slice(place)].slice(0, KEPT);
    return true;
  }

  // It rings: it is shown until a person has seen it. False: it has rung.
  ring(call, now) {
    if (!this.add({ ...call, missed: false, rang_at: now })) return false;
    this.open = [...this.open, call.id].slice(-KEPT);
    return true;
  }

  // It came too late, or no app took it: listed, silently.
  miss(call) {
    return this.add({ ...call, missed: true });
  }

  // Those that the user has not seen, newest first.
  shown() {
    return this.list.filter((one) => this.open.includes(one.id));
  }

  // A person pressed the button. One that came in the moment before stays: it was not seen.
  answer(now) {
    const shown = this.shown();
    const first = Math.min(...shown.map((one) => one.rang_at));
    const unseen = (one) => one.rang_at > first && now - one.rang_at < TOO_QUICK_MS;
    return this.seen(shown.filter((one) => !unseen(one)).map((one) => one.id));
  }

  // These were seen, here or on another phone; returns those that were open.
  seen(ids) {
    const ends = this.open.filter((id) => ids.includes(id));
    this.open = this.open.filter((id) => !ids.includes(id));
    return ends;
  }

  // After a reload: what has rung long ago is not shown once more; returns it.
  forget_old(now) {
    const young = (one) => now - one.rang_at < SHOWN_AGAIN_MS && now >= one.rang_at;
    return this.seen(this.open.filter((id) => !this.list.some((one) => one.id === id && young(one))));
  }

  stored() {
    return { list: this.list, known: this.known, open: this.open };
  }
}

// The wake's own life is told with it. Without an age (an older bridge) what comes may ring.
export function isOver({ ttl_ms }, age_ms) {
  return age_ms !== null && Number.isFinite(ttl_ms) && age_ms >= ttl_ms;
}
