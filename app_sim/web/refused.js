// Finds out why the bridge refuses this page: browsers hide the reason of a refused handshake.

import { ask } from "./http.js";

export async function whyRefused() {
  // It names the page's origin, as the handshake does, and has no other effect.
  const answer = await ask("./", { body: {} });
  return answer?.status === 403 ? (answer.body?.detail ?? null) : null;
}

export function messageOf(reason) {
  try {
    return JSON.parse(reason).message ?? null;
  } catch {
    return null;
  }
}
