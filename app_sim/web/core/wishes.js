// Log-outs that the user requested and the bridge has not confirmed; kept until then.

import { isToken, isUid } from "./users.js";

// One wish: {uid, token (null: a bridge that asks for none), refused (the bridge did not take the token)}.
export class Wishes {
  constructor(stored) {
    const sound = Array.isArray(stored) ? stored.filter((one) => isUid(one?.uid)) : [];
    this.list = sound.map(({ uid, token, refused }) => ({ uid, token: isToken(token) ? token : null, refused: refused === true }));
  }

  add({ uid, token }) {
    this.list = [...this.list.filter((one) => one.uid !== uid), { uid, token: token ?? null, refused: false }];
  }

  of(uid) {
    return this.list.find((one) => one.uid === uid) ?? null;
  }

  settle(uid) {
    this.list = this.list.filter((one) => one.uid !== uid);
  }

  // What the bridge said to a try with this token. True: something has changed.
  judge(uid, token, verdict) {
    const wish = this.of(uid);
    if (!wish || verdict === "again") return false;
    if (verdict === "refused") {
      // Another token may have come meanwhile.
      if (wish.refused || wish.token !== token) return false;
      wish.refused = true;
      return true;
    }
    this.settle(uid);
    return true;
  }

  stored() {
    return this.list.length ? this.list : null;
  }
}

// What an answer to POST /api/auth/logout means; null: none came.
// Only {"success": true} is a log-out: portals and proxies answer 200 as well, and 401 and 403, but not in the bridge's words.
export function verdict(answer) {
  if (answer?.status === 200 && answer.body?.success === true) return "done";
  if (answer?.body?.detail === undefined) return "again";
  if (answer.status === 401 || answer.status === 403) return "refused";
  return answer.status === 422 ? "void" : "again"; // 422: there can be no such user
}

// Whether somebody else answered in the bridge's place. A browser asks them again on the same connection, even when
// the bridge is there again; a socket is a new one.
export function isForeign(answer) {
  return answer !== null && answer.status !== 429 && answer.body?.success !== true && answer.body?.detail === undefined;
}

const FIRST_MS = 1500;
const LATER_MS = 2800;
const QUICK = 3;
const MORE_MS = 1000;

// Until the next try; tries overlap, for one of them may hang. A slow network needs room for the later ones.
export function pauseMs(tries, random) {
  return (tries < QUICK ? FIRST_MS : LATER_MS) + MORE_MS * random;
}
