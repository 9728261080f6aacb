// How a call is made known: a tone, the phone's vibration, a notification. Each does what the phone lets it do.

let audio;

// To be called from a click: browsers give sound only to pages that somebody has touched.
export function unlock() {
  try {
    audio ??= new AudioContext();
    audio.resume();
  } catch {
    audio = undefined;
  }
}

export function sound() {
  if (audio?.state !== "running") return false;
  for (let turn = 0; turn < 3; turn += 1) {
    tone(660, turn * 0.7);
    tone(880, turn * 0.7 + 0.18);
  }
  return true;
}

function tone(hz, after) {
  const begin = audio.currentTime + after;
  const loud = audio.createGain();
  loud.gain.setValueAtTime(0, begin);
  loud.gain.linearRampToValueAtTime(0.25, begin + 0.02);
  loud.gain.linearRampToValueAtTime(0, begin + 0.16);
  const source = audio.createOscillator();
  source.frequency.value = hz;
  source.connect(loud).connect(audio.destination);
  source.start(begin);
  source.stop(begin + 0.17);
}

export function vibrate() {
  return navigator.vibrate?.([300, 150, 300, 150, 600]) ?? false;
}

// One notification per call, whoever shows it first: this page, another tab or the push.
export async function notify(id, title, body) {
  if (globalThis.Notification?.permission !== "granted") return;
  const registration = await navigator.serviceWorker?.ready;
  await registration?.showNotification(title, { body, tag: id, icon: "icon-192.png", data: { id } });
}

export async function wasPushed(id) {
  const registration = await navigator.serviceWorker?.getRegistration();
  const shown = (await registration?.getNotifications({ tag: id })) ?? [];
  return shown.length > 0;
}

// The notifications of these calls end; without `ids` all of them, also those that the service worker has shown.
export async function end(ids = null) {
  const registration = await navigator.serviceWorker?.getRegistration();
  const shown = (await registration?.getNotifications()) ?? [];
  shown.filter((one) => !ids || ids.includes(one.tag)).forEach((one) => one.close());
}
