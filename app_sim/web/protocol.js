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

// One frame of the bridge; null if it is nothing that a bridge says.
export function messageOf(data) {
  try {
    const message = JSON.parse(data);
    return typeof message?.type === "string" ? message : null;
  } catch {
    return null;
  }
}

export { uidOf } from "./core/users.js";
