// What rings, what is shown, what is listed.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Calls, isOver } from "../../../../app_sim/web/core/calls.js";
import { BridgeClock, SteadyClock } from "../../../../app_sim/web/core/clock.js";

const at = (second) => new Date(Date.UTC(2026, 0, 1, 9, 0, second)).toISOString();
const call = (id, more) => ({ id, device: `jetson-${id}`, at: null, ...more });
const ids = (list) => list.map((one) => one.id);

test("a call rings once, whoever says it again", () => {
  const calls = new Calls(null);
  assert.equal(calls.ring(call("a"), 0), true);
  assert.equal(calls.ring(call("a"), 0), false);
  assert.equal(calls.miss(call("a")), false);
  assert.equal(calls.list[0].missed, false);
  assert.equal(new Calls(JSON.parse(JSON.stringify(calls.stored()))).ring(call("a"), 0), false, "nor after a reload");
});

test("what was missed is listed and not shown", () => {
  const calls = new Calls(null);
  assert.equal(calls.miss(call("a")), true);
  assert.deepEqual(ids(calls.shown()), []);
  assert.deepEqual([calls.list[0].id, calls.list[0].missed], ["a", true]);
  assert.equal(calls.ring(call("a"), 0), false, "and rings nobody later");
});

test("two calls are both shown, the newest first, until they are answered", () => {
  const calls = new Calls(null);
  calls.ring(call("a"), 1000);
  calls.ring(call("b"), 4000);
  assert.deepEqual(ids(calls.shown()), ["b", "a"]);
  assert.deepEqual(calls.answer(9000), ["a", "b"]);
  assert.deepEqual(calls.shown(), []);
});

test("a call that comes in the moment before the button is pressed is not answered by it", () => {
  const calls = new Calls(null);
  calls.ring(call("a"), 1000);
  calls.ring(call("b"), 8000);
  assert.deepEqual(calls.answer(8100), ["a"]);
  assert.deepEqual(ids(calls.shown()), ["b"]);
  assert.deepEqual(calls.answer(8110), ["b"], "the one that is shown alone is meant");
});

test("an answer elsewhere ends it here, and only that one", () => {
  const calls = new Calls(null);
  calls.ring(call("a"), 0);
  calls.ring(call("b"), 0);
  assert.deepEqual(calls.seen(["a", "unknown"]), ["a"]);
  assert.deepEqual(ids(calls.shown()), ["b"]);
});

test("the list is in the order in which the bridge received them", () => {
  const calls = new Calls(null);
  calls.ring(call("late", { at: at(30) }), 0);
  calls.miss(call("early", { at: at(10) }));
  calls.miss(call("between", { at: at(20) }));
  assert.deepEqual(ids(calls.list), ["late", "between", "early"]);
  calls.miss(call("undated"));
  calls.ring(call("last", { at: at(40) }), 0);
  assert.deepEqual(ids(calls.list).filter((id) => id !== "undated"), ["last", "late", "between", "early"]);
});

test("twenty are listed, and what has rung is known for longer", () => {
  const calls = new Calls(null);
  for (let nth = 0; nth < 300; nth += 1) calls.ring(call(`w${nth}`, { at: at(nth) }), nth);
  assert.equal(calls.list.length, 20);
  assert.equal(calls.list[0].id, "w299");
  assert.equal(calls.ring(call("w150"), 0), false);
});

test("after a reload a call that rang long ago is not shown again", () => {
  const calls = new Calls(null);
  calls.ring(call("old"), 1_000_000);
  calls.ring(call("young"), 1_100_000);
  calls.ring(call("odd"), 9_000_000);
  const again = new Calls(calls.stored());
  assert.deepEqual(again.forget_old(1_150_000), ["old", "odd"]);
  assert.deepEqual(ids(again.shown()), ["young"]);
});

test("what nobody can have stored is left out", () => {
  for (const stored of [undefined, 1, "x", [], { list: 1, known: {}, open: "x" }, { list: [null, 1, { id: 1 }], known: [1], open: [{}] }]) {
    assert.deepEqual(new Calls(stored).stored(), { list: [], known: [], open: [] });
  }
  const [one] = new Calls({ list: [{ id: "a", device: "b", at: { x: 1 }, missed: "yes" }] }).list;
  assert.deepEqual([one.at, one.missed], [null, false]);
});

// How old it is

const TTL = { ttl_ms: 10_000 };

function connected({ sent = 1000, answered = 500_000 } = {}) {
  const clock = new BridgeClock();
  clock.answered(sent, answered);
  return clock;
}

test("a call is as old as the bridge said, and as it has lain here since", () => {
  const clock = connected();
  const wake = { ...TTL, clock_ms: 503_000, age_ms: 200 };
  assert.equal(clock.age(wake, 4000), 200);
  assert.equal(isOver(wake, clock.age(wake, 4000)), false);
  assert.equal(isOver(wake, clock.age(wake, 13_799)), false);
  assert.equal(isOver(wake, clock.age(wake, 13_800)), true);
});

test("a repetition of an old call is as old as the call", () => {
  const clock = connected();
  assert.equal(isOver(TTL, clock.age({ clock_ms: 503_000, age_ms: 9000 }, 5000)), true);
});

test("a slow answer makes a call older, a quick one sets it right, and it never makes one younger", () => {
  const clock = connected({ sent: 0, answered: 500_000 }); // the bridge had it after 8 s
  const wake = { clock_ms: 500_000, age_ms: 0 };
  assert.equal(clock.age(wake, 8000), 8000);
  clock.answered(8000, 500_010);
  assert.equal(clock.age(wake, 8000), 10);
  clock.answered(9000, 509_000);
  assert.ok(clock.age(wake, 8000) <= 20);
});

test("an older bridge tells no age: what comes may ring", () => {
  const clock = new BridgeClock();
  clock.answered(0, undefined);
  assert.equal(clock.age({ clock_ms: 1, age_ms: 1 }, 99_999), null);
  assert.equal(connected().age({ ttl_ms: 10_000 }, 99_999), null);
  assert.equal(isOver(TTL, null), false);
  assert.equal(isOver({}, 99_999), false);
});

test("the page's clock counts sleep and never goes back", () => {
  let steady = 0;
  let wall = 1_000_000;
  const clock = new SteadyClock(() => steady, () => wall);
  steady += 1000; wall += 1000;
  assert.equal(clock.now(), 1000);
  wall += 60_000; // the machine slept
  assert.equal(clock.now(), 61_000);
  steady += 500; wall -= 3_600_000; // the clock was set back
  assert.equal(clock.now(), 61_500);
  steady += 500; wall += 500;
  assert.equal(clock.now(), 62_000);
});
