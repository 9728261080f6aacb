// Calls for a phone that sleeps: the browser's push service wakes the service worker.

async function ask(path, token, body) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const request = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(path, request);
  return answer.ok ? answer.json() : null;
}

// The bridge's key, or null where there is no push: not on this bridge, or not in this browser.
export async function key(token) {
  if (!("PushManager" in globalThis) || !navigator.serviceWorker) return null;
  return (await ask("/api/push/key", token).catch(() => null))?.public_key ?? null;
}

export async function subscription() {
  const registration = await navigator.serviceWorker?.getRegistration();
  return (await registration?.pushManager?.getSubscription()) ?? null;
}

export async function subscribe(uid, token, publicKey) {
  const registration = await navigator.serviceWorker.ready;
  const made = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: publicKey });
  const taken = await ask("/api/push/subscribe", token, { uid, subscription: made.toJSON() });
  if (!taken) await made.unsubscribe();
  return taken !== null;
}

export async function unsubscribe(uid, token) {
  const made = await subscription();
  if (!made) return;
  await ask("/api/push/unsubscribe", token, { uid, endpoint: made.endpoint }).catch(() => null);
  await made.unsubscribe();
}
