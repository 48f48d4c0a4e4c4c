// @ts-check
/** The user's own account: their scopes, password and sessions. */

/** @import { Context } from "../main.js" */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { badge, button, el, field, section } from "../lib/dom.js";
import { pagedList } from "../lib/paged-list.js";
import { sessionRow } from "../lib/session-row.js";
import { time } from "../lib/times.js";

/** @param {Context} context */
export async function accountPage(context) {
  const { me } = context;
  const change = button("Change password", () => changePassword(context), {
    id: "change-password",
  });
  return [
    el("div", { class: "top" }, el("h1", {}, me.username), me.kind === "person" && change),
    el(
      "div",
      { class: "facts" },
      badge(me.kind),
      el("span", {}, "since ", time(me.created_at)),
      el("code", {}, me.id),
    ),
    section("Your scopes", [], scopeList(me)),
    await sessionsSection(context),
  ];
}

/** @param {Api.Me} me */
function scopeList({ granted, granted_until, scopes }) {
  const rows = granted.map((scope) => {
    const end = granted_until[scope];
    return el(
      "li",
      {},
      el("code", { class: "grow" }, scope),
      end && el("small", {}, "until ", time(end)),
      !scopes.includes(scope) && el("small", {}, "from your next sign-in"),
    );
  });
  return rows.length
    ? el("ul", { class: "rows" }, ...rows)
    : el("p", { class: "nothing" }, "You have no scopes.");
}

/** @param {Context} context */
async function sessionsSection(context) {
  const list = pagedList(
    (after) => api.get("users/me/sessions", { after, limit: 10 }),
    (/** @type {Api.OwnSessionAnswer} */ session) =>
      sessionRow(session, endButton(context, session)),
    "You have no sessions.",
  );
  await list.show();
  const all = button("End all", () => endAll(context), { id: "end-all", class: "danger" });
  return section("Your sessions", [all], list.node);
}

/**
 * @param {Context} context
 * @param {Api.SessionAnswer} session
 */
function endButton({ notify, refresh }, { id }) {
  const end = async () => {
    await api.delete(`users/me/sessions/${id}`);
    notify("The session has ended.");
    await refresh();
  };
  return button("End", end, { id: `end-${id}`, class: "danger" });
}

/** @param {Context} context */
async function endAll({ refresh }) {
  const done = await ask({
    title: "End all your sessions?",
    text: "This session ends too, and you need to sign in again.",
    verb: "End all",
    danger: true,
    action: () => api.delete("users/me/sessions"),
  });
  if (done) await refresh();
}

/** @param {Context} context */
async function changePassword({ notify, refresh }) {
  const password = { type: "password", required: true };
  const done = await ask({
    title: "Change your password",
    text: "All your other sessions end.",
    fields: [
      field("Current password", {
        ...password,
        name: "current_password",
        autocomplete: "current-password",
      }),
      field("New password", { ...password, name: "new_password", autocomplete: "new-password" }),
    ],
    verb: "Change",
    action: (values) => api.post("users/me/password", values),
  });
  if (!done) return;
  notify("Your password is changed.");
  await refresh();
}
