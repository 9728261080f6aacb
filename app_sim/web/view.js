// Draws what core/showing.js decides, in the words of one language.

import { connectionOf, minutesLeft, noticesOf, ringOf, screenOf, tokenEnd } from "./core/showing.js";
import * as ring from "./ring.js";
import { wordsOf } from "./words.js";

const ANNOUNCED = 5;
const TYPING_MS = 1000;
const READ_MS = 700;

// An element of index.html.
export function $(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

export const input = (id) => /** @type {HTMLInputElement} */ ($(id));

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
    /** @type {HTMLElement | null} */
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

  // A day and a minute, as people say it.
  moment(ms) {
    return new Date(ms).toLocaleString(this.language, { dateStyle: "long", timeStyle: "short" });
  }

  // For screen readers: read once for each call.
  announce(call) {
    const said = document.createElement("p");
    said.textContent = `${this.say.who(call.device)} ${this.clock(call.at)}`;
    $("announced").append(said);
    while ($("announced").children.length > ANNOUNCED) $("announced").firstElementChild?.remove();
  }

  render() {
    const known = this.known();
    const { user, wishes, shared, question } = known;
    const screen = screenOf(user, wishes);
    document.documentElement.lang = this.language;
    document.title = this.say.name;
    this.#login(known, screen);
    /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-say]")).forEach((one) => {
      const said = this.say[String(one.dataset.say)];
      if (one.textContent !== said) one.textContent = said;
    });
    tell("language", this.say.other_language);
    $("language").lang = this.language === "ko" ? "en" : "ko";
    tell("notice", noticesOf({ notice: shared.notice, ...known }).map((one) => this.#sentence(one)).join(" "));
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

  #login({ log_in, asks_log_in }, screen) {
    $("login").hidden = screen !== "login" || asks_log_in;
    for (const [field, way] of [["token", "token"], ["uid", "name"]]) {
      const typing = input(field).value !== "" || document.activeElement === input(field);
      $(`by-${way}`).hidden = log_in !== null && log_in !== way && !typing;
      $(`${field}-why`).dataset.say = log_in === way ? `${field}_asked` : `${field}_why`;
    }
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
    const at = /** @type {HTMLElement | null} */ (document.activeElement);
    if (!was || at?.matches("input, textarea, select")) return;
    const now = Date.now();
    this.shown_at = now - this.key_at < TYPING_MS ? now : 0;
    this.focused = at;
    $("call-seen").focus();
  }

  #home({ user, shared, calls }, screen) {
    const leaving = screen === "leaving";
    tell("who", this.say.logged_in_as(user.uid));
    tell("state", this.#sentence(connectionOf(shared, { screen, online: navigator.onLine })));
    $("connect").hidden = leaving || shared.phase !== "over";
    const minutes = leaving ? null : minutesLeft(shared, Date.now());
    tell("left", minutes === null ? "" : this.say.left(minutes));
    const ends = leaving ? null : tokenEnd(shared, Date.now());
    tell("token-end", ends === null ? "" : this.say.token_end(this.moment(ends)));
    $("devices").replaceChildren(...shared.sessions.map((one) => this.#line({ device: one.device_id })));
    $("no-devices").hidden = shared.sessions.length > 0;
    $("calls").replaceChildren(...calls.list.map((one) => this.#line(one)));
    $("no-calls").hidden = calls.list.length > 0;
    const may = ring.permission();
    $("notify").hidden = may !== "default";
    $("push").hidden = !shared.pushes?.offered || may !== "granted";
    $("push").setAttribute("aria-pressed", String(shared.pushes?.on === true));
    /** @type {HTMLButtonElement} */ ($("logout")).disabled = leaving;
    $("pair").hidden = leaving;
    tell("ring-state", ringOf(may, ring.sounding()).map((one) => this.#sentence(one)).join(" "));
  }

  #line({ device, at = null, missed = false }) {
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
