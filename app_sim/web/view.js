// What a person sees: draws what core/showing.js says, in the words of one language.

import { connectionOf, minutesLeft, noticesOf, ringOf, screenOf } from "./core/showing.js";
import * as ring from "./ring.js";
import { wordsOf } from "./words.js";

const ANNOUNCED = 5;
const TYPING_MS = 1000;
const READ_MS = 700;

export const $ = (id) => document.getElementById(id);

// Screen readers read a text again whenever it is set.
function tell(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

export class View {
  // `known` gives what the page knows now.
  constructor(language, known) {
    this.known = known;
    this.language = ["ko", "en"].includes(language) ? language : navigator.language.startsWith("ko") ? "ko" : "en";
    this.say = wordsOf(this.language);
    this.key_at = 0;
    this.shown_at = 0; // the button, to somebody who was using the keyboard
    this.focused = null;
    addEventListener("keydown", () => { this.key_at = Date.now(); }, true);
  }

  // Whether a key on the button is meant for it: not one of somebody who was pressing keys when the call came.
  may_answer_by_key() {
    return Date.now() - this.shown_at > READ_MS;
  }

  // The other language; returns it.
  turn() {
    this.language = this.language === "ko" ? "en" : "ko";
    this.say = wordsOf(this.language);
    this.render();
    return this.language;
  }

  clock(iso) {
    const at = new Date(iso ?? NaN);
    if (Number.isNaN(at.getTime())) return iso ?? "";
    const today = at.toDateString() === new Date().toDateString();
    return at.toLocaleString(this.language, { ...(today ? {} : { dateStyle: "short" }), timeStyle: "medium" });
  }

  // Read to whoever does not see the page, once for each call.
  announce(call) {
    const said = document.createElement("p");
    said.textContent = `${this.say.who(call.device)} ${this.clock(call.at)}`;
    $("announced").append(said);
    while ($("announced").children.length > ANNOUNCED) $("announced").firstChild.remove();
  }

  render() {
    const known = this.known();
    const { user, wishes, state, question } = known;
    const screen = screenOf(user, wishes);
    document.documentElement.lang = this.language;
    document.title = this.say.name;
    document.querySelectorAll("[data-say]").forEach((one) => {
      if (one.textContent !== this.say[one.dataset.say]) one.textContent = this.say[one.dataset.say];
    });
    tell("language", this.say.other_language);
    $("language").lang = this.language === "ko" ? "en" : "ko";
    tell("notice", noticesOf({ notice: state.notice, ...known }).map((one) => this.#sentence(one)).join(" "));
    $("login").hidden = screen !== "login";
    $("home").hidden = screen === "login";
    $("other").hidden = !question;
    if (question) {
      tell("other-who", this.say.other_who(question.uid, user?.uid));
      tell("other-yes", this.say.other_yes(question.uid, user?.uid));
      tell("other-no", this.say.other_no(user?.uid));
    }
    this.#call(known.calls.shown());
    if (user) this.#home(known, screen);
  }

  #sentence(said) {
    if (!said) return "";
    const [name, ...given] = said;
    if (name === "text" || name === "code_refused") return given[0];
    return typeof this.say[name] === "function" ? this.say[name](...given) : this.say[name];
  }

  #call([newest, ...more]) {
    const was = $("call").hidden;
    $("call").hidden = !newest;
    if (!newest) {
      if (!was) this.focused?.focus();
      this.focused = null;
      return;
    }
    tell("call-who", this.say.who(newest.device));
    tell("call-when", this.clock(newest.at));
    $("call-more").hidden = more.length === 0;
    $("call-more").replaceChildren(...more.map((one) => this.#line({ ...one, device: this.say.who(one.device) })));
    // The next key of somebody who types is not meant for the button.
    const at = document.activeElement;
    if (!was || at?.matches("input, textarea, select")) return;
    const now = Date.now();
    this.shown_at = now - this.key_at < TYPING_MS ? now : 0;
    this.focused = at;
    $("call-seen").focus();
  }

  #home({ user, state, calls }, screen) {
    const leaving = screen === "leaving";
    tell("who", this.say.logged_in_as(user.uid));
    tell("state", this.#sentence(connectionOf(state, { screen, online: navigator.onLine })));
    $("connect").hidden = leaving || state.phase !== "over";
    const minutes = leaving ? null : minutesLeft(state, Date.now());
    tell("left", minutes === null ? "" : this.say.left(minutes));
    $("devices").replaceChildren(...state.sessions.map((one) => this.#line({ device: one.device_id })));
    $("no-devices").hidden = state.sessions.length > 0;
    $("calls").replaceChildren(...calls.list.map((one) => this.#line(one)));
    $("no-calls").hidden = calls.list.length > 0;
    const may = ring.permission();
    $("notify").hidden = may !== "default";
    $("push").hidden = !state.pushes?.offered || may !== "granted";
    $("push").setAttribute("aria-pressed", String(state.pushes?.on === true));
    $("logout").disabled = leaving;
    $("pair").hidden = leaving;
    tell("ring-state", ringOf(may, ring.sounding()).map((one) => this.#sentence(one)).join(" "));
  }

  #line({ device, at, missed }) {
    const item = document.createElement("li");
    const what = document.createElement("strong");
    what.textContent = device;
    item.append(what);
    if (at) {
      const time = document.createElement("time");
      time.dateTime = at;
      time.textContent = this.clock(at);
      item.append(time);
    }
    if (missed) {
      item.className = "missed";
      what.dataset.missed = this.say.missed;
    }
    return item;
  }
}
