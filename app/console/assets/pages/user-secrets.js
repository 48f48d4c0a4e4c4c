// @ts-check
/** A service account's secrets: a section of its page. */

/** @import { UserContext } from "./user.js" */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { button, el, section } from "../lib/dom.js";
import { showSecret } from "../lib/secret.js";
import { time } from "../lib/times.js";

/** @param {UserContext} context */
export async function secretsSection(context) {
  /** @type {Api.SecretPage} */
  const { items } = await api.get(`${context.path}/secrets`);
  const create =
    context.offers("POST /users/{user_id}/secrets") &&
    button("New secret", () => createSecret(context), { id: "make-secret" });
  const rows = items.map((secret) => secretRow(context, secret));
  const list = rows.length
    ? el("ul", { class: "rows" }, ...rows)
    : el("p", { class: "nothing" }, "The account has no secret, so it can't sign in.");
  const hint =
    "The account can have two secrets at a time: create the new one, change over, then revoke the old one.";
  return section("Secrets", [create], list, el("p", { class: "hint" }, hint));
}

/**
 * @param {UserContext} context
 * @param {Api.SecretAnswer} secret
 */
function secretRow(context, { secret_id, created_at }) {
  const revoke =
    context.offers("DELETE /users/{user_id}/secrets/{secret_id}") &&
    button("Revoke", () => revokeSecret(context, secret_id), { class: "danger" });
  const made = el("span", {}, "created ", time(created_at, { seconds: true }));
  return el(
    "li",
    {},
    el("div", { class: "grow" }, made, el("small", {}, el("code", {}, secret_id))),
    revoke,
  );
}

/** @param {UserContext} context */
async function createSecret({ path, refresh }) {
  await showSecret(await api.post(`${path}/secrets`));
  await refresh();
}

/**
 * @param {UserContext} context
 * @param {string} id
 */
async function revokeSecret({ path, account, notify, refresh }, id) {
  const done = await ask({
    title: `Revoke this secret of ${account.username}?`,
    text: "Services that still use it can't sign in from now on.",
    verb: "Revoke",
    danger: true,
    action: () => api.delete(`${path}/secrets/${id}`),
  });
  if (!done) return;
  notify("The secret is revoked.");
  await refresh();
}
