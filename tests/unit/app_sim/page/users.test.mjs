// Who is logged in here, and what a log-in link means.

import assert from "node:assert/strict";
import { test } from "node:test";

import { isUid, linkOf, ownerOf, uidOf, userOf } from "../../../../app_sim/web/core/users.js";

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const token = (uid, more = {}) => `${encoded({ alg: "HS256", kid: "k" })}.${encoded({ uid, exp: 1, ...more })}.${"s".repeat(43)}`;

test("a whole token has an owner, and one that was cut anywhere has none", () => {
  const whole = token("앨리스 #1");
  assert.equal(ownerOf(whole), "앨리스 #1");
  for (let length = 0; length < whole.length; length += 1) assert.equal(ownerOf(whole.slice(0, length)), null, `${length}`);
  for (let begin = 1; begin < 40; begin += 1) assert.equal(ownerOf(whole.slice(begin)), null, `from ${begin}`);
  for (const odd of ["", "nonsense", "a.b.c", `${whole} ${whole}`, `${whole}.x`, token(""), token("a/b"), token(7), null, 7]) {
    assert.equal(ownerOf(odd), null, String(odd));
  }
});

test("another algorithm's signature is as long as it is", () => {
  assert.equal(ownerOf(`${encoded({ alg: "ES256" })}.${encoded({ uid: "alice" })}.${"s".repeat(86)}`), "alice");
});

test("a name that the bridge would refuse is none", () => {
  assert.ok(["alice", "앨리스 #1", "a".repeat(128), "👩‍👩‍👧".slice(0, 2), "..."].every(isUid));
  assert.ok(!["", "a/b", "a\nb", "\u200b", "a".repeat(129), ".", "..", "\ud800", null, 7, {}].some(isUid));
});

test("a link says who comes", () => {
  const alice = token("alice");
  assert.equal(linkOf("", null), null);
  assert.equal(linkOf("#section", null), null);
  assert.deepEqual(linkOf(`#token=${alice}`, null), { kind: "enter", user: { uid: "alice", token: alice } });
  assert.deepEqual(linkOf(`#token=${alice}`, { uid: "alice", token: null }).kind, "enter");
  assert.deepEqual(linkOf(`#token=${alice}`, { uid: "bob", token: null }).kind, "other");
  assert.deepEqual(linkOf(`#token=${alice.slice(0, 60)}`, { uid: "alice", token: alice }), { kind: "cut" });
  assert.deepEqual(linkOf("#token=", null), { kind: "cut" });
});

test("a newer token of the same user keeps the one that is known to be good, to go back to", () => {
  const [old, next] = [token("alice"), token("alice", { exp: 2 })];
  assert.deepEqual(linkOf(`#token=${next}`, { uid: "alice", token: old }).user, { uid: "alice", token: next, before: old });
  assert.deepEqual(linkOf(`#token=${old}`, { uid: "alice", token: old }).user, { uid: "alice", token: old });
});

test("what a chat program puts behind a link is no part of it", () => {
  for (const behind of [".", ")", "%20", " ", ">", "\"", ",", "。"]) {
    assert.equal(linkOf(`#token=${token("alice")}${behind}`, null).user?.uid, "alice", behind);
  }
});

test("what was stored is believed as far as it makes sense", () => {
  const good = token("alice");
  assert.deepEqual(userOf({ uid: "alice", token: good, returns: true, before: good, more: 1 }), { uid: "alice", token: good, before: good, returns: true });
  assert.deepEqual(userOf({ uid: "alice", token: 7, before: {}, returns: "x" }), { uid: "alice", token: null });
  for (const stored of [null, undefined, 1, "alice", [], {}, { uid: "" }, { uid: 1 }]) assert.equal(userOf(stored), null);
  assert.equal(uidOf("x.y"), null);
});
