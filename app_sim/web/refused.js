// Why the bridge lets this page in no more: a browser tells a page nothing of a handshake that was refused.

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
