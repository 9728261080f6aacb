// The log-in form, and links that bring a token.

import { logIn, replaceUser } from "./account.js";
import { screenOf } from "./core/showing.js";
import { isUid, linkOf, ownerOf } from "./core/users.js";
import { ask } from "./http.js";
import { askToNotify } from "./notifications.js";
import * as ring from "./ring.js";
import { change, page, view } from "./state.js";
import { $, input } from "./view.js";

const ASKED_FOR_MS = 500; // the form is not drawn before it is known what it asks for, or after this time

// Whether this bridge wants a token or a name. A form that has been drawn keeps the field in which the user types.
export async function learnLogin() {
  const timer = setTimeout(drawn, ASKED_FOR_MS);
  const wanted = (await ask("server.json"))?.body?.log_in;
  clearTimeout(timer);
  page.log_in = ["token", "name"].includes(wanted) ? wanted : null;
  drawn();
}

function drawn() {
  page.asks_log_in = false;
  view.render();
}

export function watchLogin() {
  $("login").addEventListener("submit", submit);
  $("other-yes").addEventListener("click", changeUser);
  $("other-no").addEventListener("click", () => { page.question = null; view.render(); });
  addEventListener("hashchange", followLink);
}

function submit(event) {
  event.preventDefault();
  ring.unlock();
  const token = input("token").value.trim();
  const uid = token ? ownerOf(token) : input("uid").value.trim();
  if (!isUid(uid)) {
    change({ notice: token ? "bad_token" : uid ? "code_4504" : "no_user" });
    input(token ? "token" : "uid").focus();
    return;
  }
  logIn({ uid, token: token || null });
  askToNotify();
}

// A link of the operator brings a token: #token=... is never sent to a server, and is removed from the address at once.
export function followLink() {
  if (!location.hash) return;
  const link = linkOf(location.hash, page.user);
  history.replaceState(null, "", location.pathname + location.search);
  if (!link) return;
  if (link.kind === "cut") change({ notice: "cut_link" });
  else if (link.kind === "enter" || screenOf(page.user, page.wishes) !== "home") logIn(link.user);
  else page.question = link.user;
  view.render();
  if (page.question) $("other-yes").focus();
}

function changeUser() {
  const next = page.question;
  page.question = null;
  if (next) replaceUser(next);
}
