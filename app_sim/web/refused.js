// Why the bridge lets this page in no more: a browser tells a page nothing of a handshake that was refused.

export async function whyRefused() {
  // It names the page's origin, as the handshake does, and has no other effect.
  const answer = await fetch("./", { method: "POST" }).catch(() => null);
  return answer?.status === 403 ? (await answer.json()).detail : null;
}

export function messageOf(reason) {
  try {
    return JSON.parse(reason).message ?? null;
  } catch {
    return null;
  }
}
