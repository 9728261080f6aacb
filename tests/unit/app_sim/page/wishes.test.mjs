// A log-out is a wish that is kept until the bridge has confirmed it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Wishes, isForeign, pauseMs, verdict } from "../../../../app_sim/web/core/wishes.js";

const TOKEN = "aaaa.bbbb.cccc";
const DETAIL = { detail: "a valid credential is needed" };

test("only success in the bridge's own words is a log-out", () => {
  assert.equal(verdict({ status: 200, body: { success: true, message: "Logged out successfully" } }), "done");
  for (const answer of [
    null, // no network, no answer in time
    { status: 0, body: null }, // a redirect
    { status: 200, body: null }, // a portal's page
    { status: 200, body: {} },
    { status: 200, body: { success: false } },
    { status: 200, body: { success: "true" } },
    { status: 200, body: [true] },
    { status: 202, body: { success: true } },
    { status: 204, body: null },
    { status: 401, body: null }, // a proxy's, not the bridge's
    { status: 403, body: { error: "blocked" } },
    { status: 404, body: DETAIL },
    { status: 429, body: DETAIL },
    { status: 500, body: null },
    { status: 503, body: DETAIL },
  ]) assert.equal(verdict(answer), "again", JSON.stringify(answer));
  assert.equal(verdict({ status: 401, body: DETAIL }), "refused");
  assert.equal(verdict({ status: 403, body: DETAIL }), "refused");
  assert.equal(verdict({ status: 422, body: { detail: [] } }), "void");
});

test("what somebody else answers is told from what the bridge answers", () => {
  const foreign = [{ status: 0, body: null }, { status: 200, body: null }, { status: 503, body: {} }, { status: 511, body: null }];
  assert.ok(foreign.every(isForeign));
  const own = [null, { status: 200, body: { success: true } }, { status: 503, body: DETAIL }, { status: 429, body: null }];
  assert.ok(!own.some(isForeign));
});

test("a wish is kept until it is done, also over a reload", () => {
  let wishes = new Wishes(null);
  assert.equal(wishes.stored(), null);
  wishes.add({ uid: "alice", token: TOKEN });
  wishes.add({ uid: "bob", token: null });
  wishes.add({ uid: "alice", token: TOKEN });
  wishes = new Wishes(JSON.parse(JSON.stringify(wishes.stored())));
  assert.deepEqual(wishes.list.map((one) => one.uid), ["bob", "alice"]);
  assert.equal(wishes.judge("alice", TOKEN, "again"), false);
  assert.equal(wishes.of("alice").token, TOKEN);
  assert.equal(wishes.judge("alice", TOKEN, "done"), true);
  assert.equal(wishes.of("alice"), null);
  wishes.judge("bob", null, "void");
  assert.equal(wishes.stored(), null, "nothing is left to be stored");
});

test("a token that is refused leaves the wish, and a late refusal of an older token says nothing", () => {
  const wishes = new Wishes(null);
  wishes.add({ uid: "alice", token: TOKEN });
  assert.equal(wishes.judge("alice", "dddd.eeee.ffff", "refused"), false);
  assert.equal(wishes.of("alice").refused, false);
  assert.equal(wishes.judge("alice", TOKEN, "refused"), true);
  assert.equal(wishes.of("alice").refused, true);
  assert.equal(wishes.judge("alice", TOKEN, "refused"), false, "it is told once");
  assert.equal(new Wishes(wishes.stored()).of("alice").refused, true);
  assert.equal(wishes.judge("alice", TOKEN, "done"), true);
});

test("an answer to a wish that is settled changes nothing", () => {
  const wishes = new Wishes(null);
  for (const said of ["done", "refused", "void", "again"]) assert.equal(wishes.judge("alice", null, said), false);
});

test("what nobody can have stored is left out", () => {
  for (const stored of [undefined, 1, "x", {}, { list: [] }, [null, 1, "x", {}, { uid: 1 }, { uid: "a/b" }]]) {
    assert.deepEqual(new Wishes(stored).list, []);
  }
  const [only] = new Wishes([{ uid: "alice", token: { no: "token" }, refused: "yes" }]).list;
  assert.deepEqual(only, { uid: "alice", token: null, refused: false });
});

test("a try follows within five seconds of a network's return, whatever chance says", () => {
  for (let tries = 0; tries < 100; tries += 1) {
    assert.ok(pauseMs(tries, 1) <= 4000);
    assert.ok(pauseMs(tries, 0) >= 1000, "and is no burden");
  }
  assert.ok(pauseMs(9, 0) > pauseMs(0, 0), "a slow network gets more time");
});
