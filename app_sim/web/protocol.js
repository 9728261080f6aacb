// What the bridge's sarvis.v2 means for an app. No input, no output, no clock of its own.

export const SUBPROTOCOL = "sarvis.v2";
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;

// 4500 to 4999: whoever comes back by itself would be sent away again.
export function comesBack(code) {
  return code < 4500 || code > 4999;
}

// Full jitter: after a restart of the bridge not all apps are back in the same moment.
export function waitMs(attempt, random) {
  return random * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(attempt, 16));
}

export function address(origin, uid, client) {
  const at = new URL(`/ws/app/${encodeURIComponent(uid)}/`, origin.replace(/^http/, "ws"));
  at.searchParams.set("client", client);
  return at.href;
}

// The user whom a token is for; null if it is no token.
export function uidOf(token) {
  try {
    const body = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(body), (letter) => letter.codePointAt(0));
    const uid = JSON.parse(new TextDecoder().decode(bytes)).uid;
    return typeof uid === "string" ? uid : null;
  } catch {
    return null;
  }
}

// The newest calls, and which ids have rung: kept over reloads, shared by all tabs.
export class Calls {
  static KEPT = 20;
  static REMEMBERED = 200;

  constructor(stored) {
    this.list = stored?.list ?? [];
    this.known = stored?.known ?? [];
  }

  // True the first time that an id comes.
  add(call) {
    if (this.known.includes(call.id)) return false;
    this.known = [...this.known, call.id].slice(-Calls.REMEMBERED);
    this.list = [call, ...this.list].slice(0, Calls.KEPT);
    return true;
  }

  stored() {
    return { list: this.list, known: this.known };
  }
}
