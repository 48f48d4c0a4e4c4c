// @ts-check
/** One user: their grants, secrets and sessions, and the actions on them. */

/** @import { Context } from "../main.js" */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { badge, button, el, field, section, time } from "../lib/dom.js";
import { pagedList } from "../lib/paged-list.js";
import { showSecret } from "../lib/secret.js";
import { sessionRow } from "../lib/session-row.js";
import { grantsSection } from "./user-grants.js";

/**
 * @typedef {object} ShownUser
 * @property {string} path  The user's path in the API.
 * @property {Api.UserAnswer} account
 * @property {Api.GrantAnswer[]} grants
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
  /** @type {UserContext} */
  const shown = { ...context, path, account, grants, manageable };
  return [
    header(shown),
    !manageable &&
      el(
        "p",
        { class: "hint" },
        "You can't change this account: it holds a scope that you don't hold.",
      ),
    await grantsSection(shown),
    account.kind === "service" && secretsSection(shown),
    await sessionsSection(shown),
  ];
}

/** @param {UserContext} context */
function header(context) {
  const { id, username, kind, disabled, created_at } = context.account;
  const audit = context.may("GET /audit") && el("a", { href: `#audit?user=${id}` }, "Audit log");
  return el(
    "div",
    {},
    el("div", { class: "top" }, el("h1", {}, username), ...actions(context)),
    el(
      "p",
      { class: "facts" },
      badge(kind),
      disabled ? badge("disabled", "danger") : badge("enabled", "good"),
      el("span", {}, "since ", time(created_at)),
      el("code", {}, id),
      audit,
    ),
  );
}

/**
 * Whether to offer an action on this user.
 *
 * @param {UserContext} context
 * @param {Api.Route} route
 */
function offers({ may, manageable }, route) {
  return manageable && may(route);
}

/** @param {UserContext} context */
function actions(context) {
  const { kind, disabled } = context.account;
  return [
    kind === "person" &&
      offers(context, "POST /users/{user_id}/password") &&
      button("Set password", () => setPassword(context), { id: "set-password" }),
    offers(context, "PATCH /users/{user_id}") &&
      (disabled
        ? button("Enable", () => enable(context), { id: "switch" })
        : button("Disable", () => disable(context), { id: "switch", class: "danger" })),
  ];
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
function secretsSection(context) {
  const hint =
    "The account can have two secrets at a time: create the new one, change over, then revoke the old one.";
  const revoke =
    offers(context, "DELETE /users/{user_id}/secrets/{secret_id}") &&
    button("Revoke a secret", () => revokeSecret(context), {
      id: "revoke-secret",
      class: "danger",
    });
  const create =
    offers(context, "POST /users/{user_id}/secrets") &&
    button("New secret", () => createSecret(context), { id: "make-secret" });
  return section("Secrets", [revoke, create], el("p", { class: "hint" }, hint));
}

/** @param {UserContext} context */
async function createSecret({ path }) {
  await showSecret(await api.post(`${path}/secrets`));
}

/** @param {UserContext} context */
async function revokeSecret({ path, notify }) {
  const id = { name: "secret", required: true };
  const done = await ask({
    title: "Revoke a secret",
    fields: [field("Secret's id", id, "It was shown with the secret, and it is in the audit log.")],
    verb: "Revoke",
    danger: true,
    action: ({ secret = "" }) => api.delete(`${path}/secrets/${encodeURIComponent(secret.trim())}`),
  });
  if (done) notify("The secret is revoked.");
}

/** @param {UserContext} context */
async function sessionsSection(context) {
  const list = pagedList(
    (after) => api.get(`${context.path}/sessions`, { after, limit: 10 }),
    (/** @type {Api.SessionAnswer} */ session) => sessionRow(session),
    "The user has no sessions.",
  );
  await list.show();
  const all =
    offers(context, "DELETE /users/{user_id}/sessions") &&
    button("End all", () => endAll(context), { id: "end-all", class: "danger" });
  return section("Sessions", [all], list.node);
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
