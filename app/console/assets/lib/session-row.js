// @ts-check
/** The row that shows a session. */

import { el, time } from "./dom.js";

/**
 * @param {Api.SessionAnswer} session
 * @param {Node} [action]  The button that acts on the session.
 */
export function sessionRow(session, action) {
  const { client_id, scopes, created_at, last_used_at, address, user_agent } = session;
  const from = el("strong", {}, client_id ?? address ?? "Unknown address");
  return el(
    "li",
    {},
    el(
      "div",
      { class: "grow" },
      el("div", {}, from, el("small", { class: "agent" }, user_agent)),
      el("small", {}, "signed in ", time(created_at), ", last seen ", time(last_used_at)),
      el("div", { class: "scopes" }, ...scopes.map((scope) => el("code", {}, scope))),
    ),
    action,
  );
}
