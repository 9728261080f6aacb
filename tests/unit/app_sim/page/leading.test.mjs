// Which of several tabs acts; an hour of them passes in a moment.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Leading, TICK_MS } from "../../../../app_sim/web/core/leading.js";

const WITHIN_MS = 8000;

// Tabs on one channel and one clock. A frozen one hears and says nothing, and hears it all when it goes on.
class Browser {
  constructor(...names) {
    this.now = 1_700_000_000_000;
    this.tabs = names.map((name) => new Leading(name));
    this.frozen = new Map();
    this.tabs.forEach((tab) => this.say(tab, tab.enter(this.now, true)));
  }

  tab(name) {
    return this.tabs.find((one) => one.id === name);
  }

  say(from, messages) {
    for (const message of messages) {
      for (const tab of this.tabs.filter((one) => one !== from)) {
        if (this.frozen.has(tab)) this.frozen.get(tab).push(message);
        else this.say(tab, tab.hear(structuredClone(message), this.now));
      }
    }
  }

  act(name, does) {
    const tab = this.tab(name);
    this.say(tab, does(tab, this.now));
  }

  freeze(name) {
    this.frozen.set(this.tab(name), []);
  }

  thaw(name) {
    const tab = this.tab(name);
    const missed = this.frozen.get(tab);
    this.frozen.delete(tab);
    missed.forEach((message) => this.say(tab, tab.hear(message, this.now)));
  }

  pass(ms) {
    for (const end = this.now + ms; this.now < end;) {
      this.now += TICK_MS;
      for (const tab of this.tabs) if (!this.frozen.has(tab)) this.say(tab, tab.tick(this.now));
    }
  }

  // Those that act: a frozen one cannot.
  get leaders() {
    return this.tabs.filter((one) => one.leads && !this.frozen.has(one)).map((one) => one.id);
  }
}

test("a tab that is alone leads after a moment", () => {
  const browser = new Browser("a");
  assert.deepEqual(browser.leaders, []);
  browser.pass(TICK_MS);
  assert.deepEqual(browser.leaders, ["a"]);
});

test("of tabs that come at the same moment one leads, and it stays so for an hour", () => {
  const browser = new Browser("a", "b", "c", "d");
  browser.pass(2 * TICK_MS);
  const [leader, ...more] = browser.leaders;
  assert.deepEqual(more, []);
  browser.pass(3_600_000);
  assert.deepEqual(browser.leaders, [leader]);
});

test("a visible tab takes over from one that stands still, and keeps the lead when that one goes on", () => {
  const browser = new Browser("a", "b");
  browser.pass(2 * TICK_MS);
  const [first] = browser.leaders;
  const second = first === "a" ? "b" : "a";
  browser.freeze(first);
  browser.pass(WITHIN_MS);
  assert.deepEqual(browser.leaders, [second]);
  browser.pass(600_000);
  browser.thaw(first);
  assert.deepEqual(browser.leaders, [second]);
  browser.pass(60_000);
  assert.deepEqual(browser.leaders, [second]);
});

test("a leader whose timers are throttled to one a minute answers, and keeps the lead", () => {
  const browser = new Browser("a", "b");
  browser.pass(2 * TICK_MS);
  const [first] = browser.leaders;
  const slow = browser.tab(first);
  const tick = slow.tick.bind(slow);
  let ticks = 0;
  slow.tick = (now) => (++ticks % 60 ? [] : tick(now));
  browser.pass(600_000);
  assert.deepEqual(browser.leaders, [first]);
});

test("the tab that is seen leads: a hidden one gives way at once", () => {
  const browser = new Browser("a", "b");
  browser.pass(2 * TICK_MS);
  const [first] = browser.leaders;
  const second = first === "a" ? "b" : "a";
  browser.act(second, (tab, now) => tab.seen(false, now));
  browser.act(first, (tab, now) => tab.seen(false, now));
  assert.deepEqual(browser.leaders, [first], "nobody sees the other one either");
  browser.act(second, (tab, now) => tab.seen(true, now));
  assert.deepEqual(browser.leaders, [second]);
  browser.pass(60_000);
  assert.deepEqual(browser.leaders, [second]);
});

test("two windows that are both seen do not take the lead from each other", () => {
  const browser = new Browser("a", "b");
  browser.pass(2 * TICK_MS);
  const [first] = browser.leaders;
  for (let turn = 0; turn < 10; turn += 1) {
    browser.act(first === "a" ? "b" : "a", (tab, now) => tab.seen(true, now));
    browser.pass(TICK_MS);
  }
  assert.deepEqual(browser.leaders, [first]);
});

test("a tab that is closed hands over at once", () => {
  const browser = new Browser("a", "b", "c");
  browser.pass(2 * TICK_MS);
  const [first] = browser.leaders;
  browser.act(first, (tab) => tab.leave());
  assert.equal(browser.leaders.length, 1);
  assert.notEqual(browser.leaders[0], first);
});

test("hidden tabs take over from one that is gone, too, though later", () => {
  const browser = new Browser("a", "b");
  browser.pass(2 * TICK_MS);
  const [first] = browser.leaders;
  browser.tabs.forEach((tab) => browser.act(tab.id, (it, now) => it.seen(false, now)));
  browser.freeze(first);
  for (let minute = 0; minute < 5; minute += 1) {
    browser.now += 60_000;
    const other = browser.tabs.find((one) => one.id !== first);
    browser.say(other, other.tick(browser.now));
  }
  assert.equal(browser.leaders.length, 1);
});

test("a machine that slept changes no leader: it was not the leader that was silent", () => {
  const browser = new Browser("a", "b");
  browser.pass(2 * TICK_MS);
  const [first] = browser.leaders;
  const second = first === "a" ? "b" : "a";
  browser.now += 3_600_000;
  browser.act(second, (tab, now) => tab.tick(now)); // before the leader has had its turn
  browser.pass(10_000);
  assert.deepEqual(browser.leaders, [first]);
});

test("whoever acts leads, and the tab that stood still meanwhile gives way when it goes on", () => {
  const browser = new Browser("a", "b");
  browser.pass(2 * TICK_MS);
  const [first] = browser.leaders;
  const second = first === "a" ? "b" : "a";
  browser.freeze(first);
  browser.act(second, (tab, now) => tab.claim(now));
  assert.deepEqual(browser.leaders, [second]);
  browser.thaw(first);
  assert.deepEqual(browser.leaders, [second]);
});

test("a clock that is set back leaves one leader", () => {
  const browser = new Browser("a", "b");
  browser.pass(2 * TICK_MS);
  browser.now -= 86_400_000;
  browser.pass(20_000);
  assert.equal(browser.leaders.length, 1);
  browser.freeze(browser.leaders[0]);
  browser.pass(WITHIN_MS + 2 * TICK_MS);
  assert.equal(browser.leaders.length, 1);
});

test("what is no message of a tab changes nothing", () => {
  const browser = new Browser("a");
  browser.pass(TICK_MS);
  for (const message of [{}, { kind: "life" }, { kind: "life", from: "x", term: "high" }, { kind: "left", from: "x" }]) {
    browser.say(browser.tab("a"), browser.tab("a").hear(message, browser.now));
  }
  assert.deepEqual(browser.leaders, ["a"]);
});
