// The service worker: the page works without a network, and a push rings while no page is open.

const SHELL = "shell";
const FILES = ["./", "app.css", "app.js", "connection.js", "protocol.js", "push.js", "refused.js", "ring.js", "words.js", "icon.svg", "icon-192.png", "manifest.webmanifest"];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(FILES)));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

// What the bridge serves is newer than what was kept.
self.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  const scope = new URL(self.registration.scope).pathname;
  if (event.request.method !== "GET" || origin !== self.location.origin || !pathname.startsWith(scope)) return;
  event.respondWith(newest(event.request));
});

async function newest(request) {
  const cache = await caches.open(SHELL);
  try {
    const answer = await fetch(request);
    if (answer.ok) await cache.put(request, answer.clone());
    return answer;
  } catch (error) {
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}

// It says only that there is a call, and its id: the page fetches the rest.
self.addEventListener("push", (event) => {
  const { id } = event.data?.json() ?? {};
  const korean = self.navigator.language.startsWith("ko");
  const title = korean ? "싸비스가 부릅니다" : "Your Jetson calls";
  const body = korean ? "누르면 열립니다" : "Tap to open";
  const options = { body, tag: id, icon: "icon-192.png", vibrate: [300, 150, 300, 150, 600], data: { id } };
  event.waitUntil(self.registration.showNotification(title, options));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(show());
});

async function show() {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find((one) => one.url.startsWith(self.registration.scope));
  return page ? page.focus() : self.clients.openWindow(self.registration.scope);
}
