// @ts-check
/** One user: their grants, secrets and sessions, and the actions on them. */

/** @import { Context } from "../main.js" */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { badge, button, el, field, section } from "../lib/dom.js";
import { pagedList } from "../lib/paged-list.js";
import { sessionRow } from "../lib/session-row.js";
import { time } from "../lib/times.js";
import { address, addressActions } from "./user-address.js";
import { grantsSection } from "./user-grants.js";
import { secretsSection } from "./user-secrets.js";
import { lastSignIn } from "./users.js";

/**
 * @typedef {object} ShownUser
 * @property {string} path  The user's path in the API.
 * @property {Api.UserAnswer} account
 * @property {Api.GrantAnswer[]} grants
 * @property {(route: Api.Route) => boolean} offers  Whether to offer an action on this user.
 * @property {boolean} manageable  The signed-in user holds every scope that this account holds.
 */
/** @typedef {Context & ShownUser} UserContext */

/** @param {Context} context */
export async function userPage(context) {
  const path = `users/${encodeURIComponent(context.id)}`;
  /** @type {[Api.UserAnswer, Api.GrantAnswer[]]} */
  const [account, grants] = await Promise.all([api.get(path), api.all(`${path}/grants`)]);
  // The API refuses to change an account that holds a scope which the caller lacks.
  const manageable = grants.every(({ scope }) => context.can(scope));
  /** @param {Api.Route} route */
  const offers = (route) => manageable && context.may(route);
  /** @type {UserContext} */
  const shown = { ...context, path, account, grants, manageable, offers };
  const [switches, secrets, sessions] = await Promise.all([
    grantsSection(shown),
    account.kind === "service" && secretsSection(shown),
    sessionsSection(shown),
  ]);
  return [
    header(shown),
    !manageable &&
      el(
        "p",
        { class: "hint" },
        "You can't change this account: it holds a scope that you don't hold.",
      ),
    switches,
    secrets,
    sessions,
  ];
}

/** @param {UserContext} context */
function header(context) {
  const { id, username, kind, disabled, created_at, last_sign_in_at } = context.account;
  const audit = context.may("GET /audit") && el("a", { href: `#audit?user=${id}` }, "Audit log");
  return el(
    "div",
    {},
    el("div", { class: "top" }, el("h1", {}, username), ...actions(context)),
    el(
      "div",
      { class: "facts" },
      badge(kind),
      disabled ? badge("disabled", "danger") : badge("enabled", "good"),
      address(context),
      el("span", {}, "since ", time(created_at)),
      el("span", {}, ...lastSignIn(last_sign_in_at)),
      audit,
      el("code", {}, id),
    ),
  );
}

/** @param {UserContext} context */
function actions(context) {
  const { kind, disabled } = context.account;
  const changeable = context.offers("PATCH /users/{user_id}");
  return [
    // A service's name is its client_id, which never changes.
    kind === "person" && changeable && button("Rename", () => rename(context), { id: "rename" }),
    kind === "person" &&
      context.offers("POST /users/{user_id}/password") &&
      button("Set password", () => setPassword(context), { id: "set-password" }),
    ...addressActions(context),
    changeable &&
      (disabled
        ? button("Enable", () => enable(context), { id: "switch" })
        : button("Disable", () => disable(context), { id: "switch", class: "danger" })),
    // People delete their own account on their account page, with their password.
    context.offers("DELETE /users/{user_id}") &&
      context.account.id !== context.me.id &&
      button("Delete", () => erase(context), { id: "erase", class: "danger" }),
  ];
}

/** @param {UserContext} context */
async function rename({ path, account, notify, refresh }) {
  const name = { name: "username", required: true, maxlength: 254, value: account.username };
  const done = await ask({
    title: `Rename ${account.username}`,
    text: "The user signs in by the new name from now on. Sessions go on.",
    fields: [field("New name", { ...name, autocapitalize: "none", spellcheck: "false" })],
    verb: "Rename",
    action: (values) => api.patch(path, values),
  });
  if (!done) return;
  notify(`${account.username} has a new name.`);
  await refresh();
}

/** @param {UserContext} context */
async function enable({ path, account, notify, refresh }) {
  await api.patch(path, { disabled: false });
  notify(`${account.username} can sign in again.`);
  await refresh();
}

/** @param {UserContext} context */
async function disable({ path, account, notify, refresh }) {
  const done = await ask({
    title: `Disable ${account.username}?`,
    text: "The user can't sign in any more, and all their sessions end.",
    verb: "Disable",
    danger: true,
    action: () => api.patch(path, { disabled: true }),
  });
  if (!done) return;
  notify(`${account.username} is disabled.`);
  await refresh();
}

/** @param {UserContext} context */
async function erase({ path, account, notify }) {
  const done = await ask({
    title: `Delete ${account.username}?`,
    text: "The account and all that is theirs are deleted. This can't be undone. The username stays taken for 30 days.",
    verb: "Delete",
    danger: true,
    action: () => api.delete(path),
  });
  if (!done) return;
  notify(`${account.username} is deleted.`);
  location.hash = "#users";
}

/** @param {UserContext} context */
async function setPassword({ path, account, notify, refresh }) {
  const password = {
    name: "password",
    type: "password",
    autocomplete: "new-password",
    required: true,
  };
  const done = await ask({
    title: `Set a password for ${account.username}`,
    text: "All the user's sessions end.",
    fields: [field("New password", password)],
    verb: "Set",
    action: (values) => api.post(`${path}/password`, values),
  });
  if (!done) return;
  notify(`${account.username} has a new password.`);
  await refresh();
}

/** @param {UserContext} context */
async function sessionsSection(context) {
  // Of one's own, the API says which is this one.
  const own = context.account.id === context.me.id;
  const path = own ? "users/me/sessions" : `${context.path}/sessions`;
  const list = pagedList(
    (after) => api.get(path, { after, limit: 10 }),
    (/** @type {Api.SessionAnswer} */ session) => sessionRow(session, endButton(context, session)),
    "The user has no sessions.",
  );
  await list.show();
  const all =
    context.offers("DELETE /users/{user_id}/sessions") &&
    button("End all", () => endAll(context), { id: "end-all", class: "danger" });
  return section("Sessions", [all], list.node);
}

/**
 * @param {UserContext} context
 * @param {Api.SessionAnswer} session
 */
function endButton({ offers, path, notify, refresh }, { id }) {
  if (!offers("DELETE /users/{user_id}/sessions/{session_id}")) return false;
  const end = async () => {
    await api.delete(`${path}/sessions/${id}`);
    notify("The session has ended. Its tokens stop working at once.");
    await refresh();
  };
  return button("End", end, { id: `end-${id}`, class: "danger" });
}

/** @param {UserContext} context */
async function endAll({ path, account, notify, refresh }) {
  const done = await ask({
    title: `End all sessions of ${account.username}?`,
    text: "All the user's tokens stop working at once. The user can sign in again.",
    verb: "End all",
    danger: true,
    action: () => api.delete(`${path}/sessions`),
  });
  if (!done) return;
  notify("All sessions have ended.");
  await refresh();
}
