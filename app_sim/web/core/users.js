// The logged-in user on this phone, and the meaning of a log-in link.

/**
 * @typedef {object} User
 * @property {string} uid
 * @property {string | null} token null: of a bridge that asks for none
 * @property {string} [before] the token to go back to if the bridge does not take the new one
 * @property {boolean} [returns] came back while a log-out was not yet done
 */

const TOKEN = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
// What a signature is long, in base64url; a token that was cut has less.
const SIGNATURES = { HS256: 43, HS384: 64, HS512: 86 };

// As the bridge has it; no address can say the two that are made of dots.
export function isUid(uid) {
  return typeof uid === "string" && /^(?!\.{1,2}$)[^/\p{C}\p{Zl}\p{Zp}]{1,128}$/u.test(uid);
}

export function isToken(token) {
  return typeof token === "string" && TOKEN.test(token);
}

function part(token, nth) {
  const body = token.split(".")[nth].replaceAll("-", "+").replaceAll("_", "/");
  const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
}

// The user whom a token is for; null if it is none.
export function uidOf(token) {
  try {
    const { uid } = part(token, 1);
    return typeof uid === "string" ? uid : null;
  } catch {
    return null;
  }
}

// The user whom a whole token is for; null if something is missing.
export function ownerOf(token) {
  if (!isToken(token)) return null;
  try {
    const length = SIGNATURES[part(token, 0).alg];
    if (length !== undefined && token.split(".")[2].length !== length) return null;
  } catch {
    return null;
  }
  const uid = uidOf(token);
  return isUid(uid) ? uid : null;
}

// What was stored, when it makes sense.
/** @returns {User | null} */
export function userOf(stored) {
  if (!isUid(stored?.uid)) return null;
  /** @type {User} */
  const user = { uid: stored.uid, token: isToken(stored.token) ? stored.token : null };
  if (isToken(stored.before)) user.before = stored.before;
  if (stored.returns === true) user.returns = true;
  return user;
}

// What the part of an address after # asks for, given who is logged in:
// null (nothing), or {kind: "cut"}, or {kind: "enter" | "other", user}.
export function linkOf(fragment, user) {
  const given = new URLSearchParams(fragment.replace(/^#/, "")).get("token");
  if (given === null) return null;
  // A chat program may have taken the full stop after the link for a part of it.
  const token = given.trim().replace(/[^A-Za-z0-9_-]+$/, "");
  const uid = ownerOf(token);
  if (uid === null) return { kind: "cut" };
  if (user && user.uid !== uid) return { kind: "other", user: { uid, token } };
  return { kind: "enter", user: renewed(user, { uid, token }) };
}

function renewed(user, next) {
  if (user?.token && user.token !== next.token) next.before = user.token;
  return next;
}
