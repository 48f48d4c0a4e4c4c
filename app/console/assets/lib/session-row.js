/** How a session looks. */

import { el, moment } from "./dom.js";

/** @param {Node} [action]  What can be done about it. */
export function sessionRow(session, action) {
  const { client_id, scopes, created_at, last_used_at, address, user_agent } = session;
  const from = el("strong", {}, client_id ?? address ?? "Somewhere");
  return el(
    "li",
    {},
    el(
      "div",
      { class: "grow" },
      el("div", {}, from, el("small", { class: "agent" }, user_agent ?? "")),
      el("small", {}, "signed in ", moment(created_at), ", last seen ", moment(last_used_at)),
      el("div", { class: "scopes" }, ...scopes.map((scope) => el("code", {}, scope))),
    ),
    action,
  );
}
