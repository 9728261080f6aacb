// What the page shows in each state. Texts are named here and written in words.js: [name, ...values].

const MINUTE_MS = 60_000;
const SOON_MS = 30 * 24 * 60 * MINUTE_MS;

// Whether somebody is logged in here, is leaving, or may log in.
export function screenOf(user, wishes) {
  if (!user) return "login";
  return wishes.of(user.uid) && !user.returns ? "leaving" : "home";
}

// The line on the connection.
export function connectionOf({ phase, seconds }, { screen, online }) {
  if (screen === "leaving") return ["leaving"];
  if (phase === "over") return null;
  if (phase !== "open" && !online) return ["offline"];
  if (phase === "waiting") return ["waiting", seconds];
  return [phase];
}

// What was not done yet, and what the page has to say besides: each a sentence, the most urgent first.
export function noticesOf({ notice, user, wishes, slow, keeps }) {
  const said = [];
  for (const { uid, refused } of wishes.list) {
    if (refused) said.push(["log_out_refused", uid]);
    else if (slow || user?.uid !== uid) said.push(["log_out_open", uid]);
  }
  if (notice) said.push([notice].flat());
  if (!keeps) said.push(["not_kept"]);
  return said;
}

// Whole minutes until the bridge logs this user out; null: there is nothing to be logged out of, or it is not known.
export function minutesLeft({ sessions, leaves_at }, now) {
  return sessions.length && leaves_at ? Math.max(0, Math.floor((leaves_at - now) / MINUTE_MS)) : null;
}

// When this phone's token ends, in ms since 1970, if that is soon; null: it does not end, or not soon, or it is not known.
export function tokenEnd({ token_ends_at }, now) {
  return token_ends_at && token_ends_at - now <= SOON_MS ? token_ends_at : null;
}

// The line on how a call is made known.
export function ringOf(permission, sounding) {
  const notify = { granted: ["notify_on"], denied: ["notify_denied"], default: null, insecure: ["notify_insecure"] };
  const sound = sounding === "running" ? null : [sounding === "none" ? "sound_none" : "sound_off"];
  const first = permission in notify ? notify[permission] : ["notify_none"];
  return [first, sound].filter(Boolean);
}
