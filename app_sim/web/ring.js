// Makes a call known: a tone, vibration, a notification, as far as the phone allows.

const PATIENCE_MS = 1000;
const TURN = "sarvis.notifications"; // also in sw.js
const LATER_MS = 1500;
const OVER_MS = 60_000; // longer than a call may ring
const SHAKES = [300, 150, 300, 150, 600];

/** @type {AudioContext | null} */
let audio = null;
let told = () => {};
/** @type {number | null} */
let waiting = null; // until when a call is to be heard that could not be
/** @type {OscillatorNode[]} */
let playing = [];
let shaken_until = 0;
/** @type {Promise<ServiceWorkerRegistration | null>} */
let registered = Promise.resolve(null);
let can_notify = true;
/** @type {Promise<unknown>} */
let notified = Promise.resolve();
const mine = new Set(); // the ids of the calls that this page has notified of

// `on_change` is called when sound or notifications come or go.
export function prepare(on_change, registration) {
  told = on_change;
  make();
  registered = registration.catch(() => null).then((it) => {
    can_notify = Boolean(it);
    told();
    return it && navigator.serviceWorker.ready;
  });
}

// Whether a call would be heard: "running"; "none": this browser has no sound; else somebody has to touch the page.
export function sounding() {
  return audio ? audio.state : "none";
}

// For an acknowledgement: what a call can do here at this moment.
export function how() {
  const sound = { running: "running", none: "none" }[sounding()] ?? "locked";
  return { permission: permission(), sound, visible: document.visibilityState === "visible" };
}

function make() {
  try {
    audio = new AudioContext();
  } catch {
    audio = null;
    return;
  }
  // A system suspends the sound of pages, for a call or an alarm for one.
  audio.onstatechange = () => told();
}

// To be called from a click, and whenever the system may give the sound back.
export async function unlock() {
  if (!audio || audio.state === "closed") make();
  if (!audio || audio.state === "running") return audio !== null;
  // It may never answer: another program holds the sound device, or the user has not touched the page yet.
  const tried = Promise.resolve(audio.resume()).catch(() => null);
  await Promise.race([tried, new Promise((over) => setTimeout(over, PATIENCE_MS))]);
  if (sounding() !== "running") return false; // it may have changed meanwhile
  if (waiting !== null && Date.now() < waiting) play();
  waiting = null;
  told();
  return true;
}

// `until` (ms since 1970): if it cannot be heard now, it is as soon as it can be.
export async function sound(until = 0) {
  if (await unlock()) return play();
  waiting = until;
  told();
  return false;
}

// The call is answered: it is quiet at once.
export function hush() {
  waiting = null;
  playing.forEach((source) => source.stop());
  playing = [];
  if (Date.now() < shaken_until) navigator.vibrate?.(0);
}

function play() {
  playing = [];
  if (!audio) return false;
  for (let turn = 0; turn < 3; turn += 1) {
    playing.push(tone(audio, 660, turn * 0.7), tone(audio, 880, turn * 0.7 + 0.18));
  }
  return true;
}

/** @param {AudioContext} audio @param {number} hz @param {number} after seconds */
function tone(audio, hz, after) {
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
  return source;
}

export function vibrate() {
  shaken_until = Date.now() + SHAKES.reduce((sum, ms) => sum + ms);
  return navigator.vibrate?.(SHAKES) ?? false;
}

// What the browser lets this page do: "granted", "denied", "default", "insecure" (no HTTPS), "none".
export function permission() {
  if (!globalThis.isSecureContext) return "insecure";
  return (can_notify && globalThis.Notification?.permission) || "none";
}

// What shows notifications, or asks which there are, does so one after another, in all tabs and in the service worker:
// Chromium forgets one that is about to be shown while a page asks. No page could close it, and a tap on it does nothing.
/** @param {() => Promise<any>} does */
function inTurn(does) {
  const done = notified.then(() => alone(does));
  notified = done.catch(() => null);
  return done;
}

// A tab that stands still in its turn is not waited for.
/** @param {() => Promise<any>} does */
async function alone(does) {
  if (!navigator.locks) return does();
  let began = false;
  const signal = AbortSignal.timeout(PATIENCE_MS);
  return navigator.locks.request(TURN, { signal }, () => (began = true) && does()).catch((error) => {
    if (began) throw error;
    return does();
  });
}

// One notification per call, from the first that shows it: this page, another tab or the push.
export function notify(id, title, body) {
  return inTurn(() => show(id, title, body)).catch(() => null);
}

async function show(id, title, body) {
  if (permission() !== "granted") return;
  const registration = await registered;
  mine.add(id);
  await registration?.showNotification(title, { body, tag: id, icon: "icon-192.png", data: { id, at: Date.now() } });
}

// Those of these calls end; without `ids` all of them.
export function unnotify(ids = null) {
  const later = ids ?? [...mine];
  inTurn(() => close(ids)).catch(() => null);
  // The browser names one only some time after it was shown.
  setTimeout(() => inTurn(() => close(later)).catch(() => null), LATER_MS);
}

// The user looks at the page: a notification of a missed or ended call is not needed beside it.
export function unnotifyOver(missed, open) {
  const is_over = ({ tag, data }) => missed.includes(tag) || (!open.includes(tag) && Date.now() - (data?.at ?? 0) > OVER_MS);
  inTurn(() => close_those(is_over)).catch(() => null);
}

function close(ids) {
  return close_those((one) => !ids || ids.includes(one.tag));
}

async function close_those(ends) {
  const registration = await registered;
  const shown = (await registration?.getNotifications()) ?? [];
  shown.filter(ends).forEach((one) => one.close());
}

// Whether the service worker has rung for this call. A browser that does not answer holds up no ring.
export async function wasPushed(id) {
  const asked = inTurn(async () => {
    const registration = await navigator.serviceWorker?.getRegistration();
    const shown = (await registration?.getNotifications({ tag: id })) ?? [];
    return shown.length > 0;
  });
  return Promise.race([asked, new Promise((give_up) => setTimeout(() => give_up(false), 2 * PATIENCE_MS))]);
}
