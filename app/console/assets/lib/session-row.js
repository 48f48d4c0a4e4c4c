// @ts-check
/** The row that shows a session: a login, or a personal access token. */

import { deviceOf } from "./device.js";
import { badge, el } from "./dom.js";
import { time } from "./times.js";

/**
 * @param {Api.SessionAnswer & {current?: boolean}} session
 * @param {Node | false} [action]  The button that acts on the session.
 */
export function sessionRow(session, action) {
  const { client_id, scopes, created_at, last_used_at, expires_at } = session;
  const { address, user_agent, current, token_name } = session;
  const device = el("strong", { title: user_agent }, token_name ?? deviceOf(user_agent));
  return el(
    "li",
    {},
    el(
      "div",
      { class: "grow" },
      el(
        "div",
        { class: "what" },
        device,
        current && badge("this device", "good"),
        token_name && badge("access token"),
      ),
      el(
        "small",
        { class: "terms" },
        el("span", {}, `from ${address ?? "an unknown address"}`),
        client_id && el("span", {}, `by the client ${client_id}`),
      ),
      el(
        "small",
        { class: "terms" },
        el("span", {}, token_name ? "made " : "signed in ", time(created_at)),
        el("span", {}, "last seen ", time(last_used_at)),
        el("span", {}, "ends ", time(expires_at)),
      ),
      el("div", { class: "scopes" }, ...scopes.map((scope) => el("code", {}, scope))),
    ),
    action,
  );
}
