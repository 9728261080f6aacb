// HTTP requests with a time-out, and their results.

const WITHIN_MS = 8000;

/**
 * {status, body (parsed JSON, else null)}; null when nothing came. A redirect has the status 0.
 * @param {string} path
 * @param {{token?: string | null, body?: object, within_ms?: number, signal?: AbortSignal, keepalive?: boolean}} [given]
 * @returns {Promise<{status: number, body: any} | null>}
 */
export async function ask(path, { token = null, body, within_ms = WITHIN_MS, signal, keepalive = false } = {}) {
  const ends = new AbortController();
  const end = () => ends.abort();
  const timer = setTimeout(end, within_ms);
  signal?.addEventListener("abort", end);
  /** @type {Record<string, string>} */
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const what = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  try {
    // A redirect leads to somebody else, to a portal for one.
    const answer = await fetch(path, { headers, redirect: "manual", cache: "no-store", keepalive, signal: ends.signal, ...what });
    return { status: answer.status, body: await answer.json().catch(() => null) };
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", end);
  }
}
