// Parses the bridge's sarvis.v2 frames for an app. No input, no output, no clock of its own.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;

// Full jitter: after a restart of the bridge not all apps are back in the same moment.
export function waitMs(attempt, random) {
  return random * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(attempt, 16));
}

// How long the bridge asks to wait by the reason of its close, {"retry_ms": ...}; 0 if it does not.
export function askedWaitMs(reason) {
  try {
    const asked = JSON.parse(reason)?.retry_ms;
    return asked > 0 ? Math.min(LONGEST_WAIT_MS, Number(asked)) : 0;
  } catch {
    return 0;
  }
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

export { SUBPROTOCOL, comesBack } from "./core/codes.js";
export { uidOf } from "./core/users.js";
