// What a person is shown is what is.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connectionOf, minutesLeft, noticesOf, ringOf, screenOf, tokenEnd } from "../../../../app_sim/web/core/showing.js";
import { Wishes } from "../../../../app_sim/web/core/wishes.js";
import { wordsOf } from "../../../../app_sim/web/words.js";

const ALICE = { uid: "alice", token: null };
const leaving = new Wishes([{ uid: "alice", token: null }]);
const none = new Wishes(null);
const home = { screen: "home", online: true };

test("whoever is leaving is not shown as connected", () => {
  assert.equal(screenOf(null, none), "login");
  assert.equal(screenOf(null, leaving), "login");
  assert.equal(screenOf(ALICE, none), "home");
  assert.equal(screenOf(ALICE, leaving), "leaving");
  assert.equal(screenOf({ ...ALICE, returns: true }, leaving), "home");
  assert.equal(screenOf({ uid: "bob" }, leaving), "home");
  assert.deepEqual(connectionOf({ phase: "open" }, { screen: "leaving", online: true }), ["leaving"]);
});

test("the line on the connection says what the connection is", () => {
  assert.deepEqual(connectionOf({ phase: "open" }, { screen: "home", online: false }), ["open"]);
  assert.deepEqual(connectionOf({ phase: "connecting" }, { screen: "home", online: false }), ["offline"]);
  assert.deepEqual(connectionOf({ phase: "connecting" }, home), ["connecting"]);
  assert.deepEqual(connectionOf({ phase: "waiting", seconds: 3 }, home), ["waiting", 3]);
  assert.equal(connectionOf({ phase: "over" }, home), null);
});

test("a log-out that is not confirmed is said, as long as it is not", () => {
  const said = (more) => noticesOf({ notice: null, user: ALICE, wishes: leaving, slow: true, keeps: true, ...more });
  assert.deepEqual(said({}), [["log_out_open", "alice"]]);
  assert.deepEqual(said({ slow: false }), [], "the first moments say it by themselves");
  assert.deepEqual(said({ user: { uid: "bob" }, slow: false }), [["log_out_open", "alice"]]);
  assert.deepEqual(said({ user: null, notice: "code_4501" }), [["log_out_open", "alice"], ["code_4501"]]);
  const refused = new Wishes([{ uid: "alice", token: null, refused: true }]);
  assert.deepEqual(said({ user: null, wishes: refused }), [["log_out_refused", "alice"]]);
  assert.deepEqual(said({ wishes: none, keeps: false, notice: ["ended", "j", "http"] }), [["ended", "j", "http"], ["not_kept"]]);
});

test("the time that is left is told where there is something to be logged out of", () => {
  assert.equal(minutesLeft({ sessions: [{}], leaves_at: 3_600_000 }, 1), 59);
  assert.equal(minutesLeft({ sessions: [{}], leaves_at: 1 }, 100), 0);
  assert.equal(minutesLeft({ sessions: [], leaves_at: 3_600_000 }, 1), null);
  assert.equal(minutesLeft({ sessions: [{}], leaves_at: null }, 1), null);
});

test("the end of a token is told from thirty days before", () => {
  const days = (count) => count * 24 * 3_600_000;
  assert.equal(tokenEnd({ token_ends_at: days(31) }, days(1)), days(31));
  assert.equal(tokenEnd({ token_ends_at: days(31) }, days(1) - 1), null);
  assert.equal(tokenEnd({ token_ends_at: days(31) }, days(32)), days(31), "one that has ended is told, too");
  assert.equal(tokenEnd({ token_ends_at: null }, days(1)), null);
});

test("what a call can do is told as it is", () => {
  assert.deepEqual(ringOf("granted", "running"), [["notify_on"]]);
  assert.deepEqual(ringOf("granted", "interrupted"), [["notify_on"], ["sound_off"]]);
  assert.deepEqual(ringOf("default", "suspended"), [["sound_off"]]);
  assert.deepEqual(ringOf("insecure", "none"), [["notify_insecure"], ["sound_none"]]);
  assert.deepEqual(ringOf("none", "running"), [["notify_none"]]);
});

test("both languages say the same things", () => {
  const [korean, english] = [wordsOf("ko"), wordsOf("en")];
  assert.deepEqual(Object.keys(korean).toSorted(), Object.keys(english).toSorted());
  for (const name of Object.keys(korean)) assert.equal(typeof korean[name], typeof english[name], name);
});
