// @ts-check
/** A user's grants, as switches: a section of the user's page. */

/** @import { UserContext } from "./user.js" */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { button, el, section } from "../lib/dom.js";
import { time } from "../lib/times.js";
import { termsFields, termsOf } from "./grant-terms.js";

/** @param {UserContext} context */
export async function grantsSection(context) {
  const held = new Map(context.grants.map((grant) => [grant.scope, grant]));
  /** @type {Api.ScopeAnswer[]} */
  const scopes = await api.all("scopes");
  const rows = scopes.map((scope) => grantRow(context, scope, held.get(scope.name)));
  return section("Grants", [], el("ul", { class: "rows" }, ...rows));
}

/**
 * @param {UserContext} context
 * @param {Api.ScopeAnswer} scope
 * @param {Api.GrantAnswer} [grant]
 */
function grantRow(context, { name, description }, grant) {
  const id = `grant-${name}`;
  // A user can only grant and revoke what they hold.
  const editable = context.offers("PUT /users/{user_id}/grants/{scope}") && context.can(name);
  const toggle = el("input", {
    ...{ type: "checkbox", role: "switch", id, checked: Boolean(grant), disabled: !editable },
    change: () => (grant ? revoke(context, grant) : give(context, name)),
  });
  const label = el("label", { for: id }, el("code", {}, name), el("small", {}, description));
  const edit = button("Edit", () => give(context, name, grant), {
    ...{ id: `terms-${name}`, "aria-label": `Edit end and reason of ${name}` },
  });
  const text = el("div", { class: "grow" }, label, grant && terms(grant));
  return el("li", {}, toggle, text, grant && editable && edit);
}

/** @param {Api.GrantAnswer} grant */
function terms({ granted_at, expires_at, reason }) {
  return el(
    "small",
    { class: "terms" },
    el("span", {}, "since ", time(granted_at)),
    expires_at && el("strong", {}, "until ", time(expires_at)),
    // The quotation marks stay outside, whatever direction the reason is written in.
    reason && el("q", {}, el("bdi", {}, reason)),
  );
}

/**
 * @param {UserContext} context
 * @param {string} scope
 */
function pathOf({ path }, scope) {
  return `${path}/grants/${encodeURIComponent(scope)}`;
}

/**
 * @param {UserContext} context
 * @param {Api.GrantAnswer} grant
 */
async function revoke(context, grant) {
  const { account, notify, refresh } = context;
  try {
    await api.delete(pathOf(context, grant.scope));
    const text = `${account.username} no longer holds ${grant.scope}. Tokens already issued lose it too.`;
    notify(text, { undo: () => restore(context, grant.scope, grant) });
  } finally {
    // After a refusal too: the switch must show what the service has stored.
    await refresh();
  }
}

/**
 * Grant the scope, or change the terms of its grant.
 *
 * @param {UserContext} context
 * @param {string} scope
 * @param {Api.GrantAnswer} [grant]
 */
async function give(context, scope, grant) {
  const { account, notify, refresh } = context;
  const done = await ask({
    title: grant ? `${scope} for ${account.username}` : `Grant ${scope} to ${account.username}`,
    fields: termsFields(grant),
    verb: grant ? "Save" : "Grant",
    action: (values) => api.put(pathOf(context, scope), termsOf(values, grant)),
  });
  if (done)
    notify(`${account.username} holds ${scope}.`, { undo: () => restore(context, scope, grant) });
  await refresh();
}

/**
 * Make it as it was before: with these terms, or not granted.
 *
 * @param {UserContext} context
 * @param {string} scope
 * @param {Api.GrantAnswer} [grant]
 */
async function restore(context, scope, grant) {
  const { account, notify, refresh } = context;
  const path = pathOf(context, scope);
  try {
    if (grant) await api.put(path, { expires_at: grant.expires_at, reason: grant.reason });
    else await api.delete(path);
    notify(`${scope} of ${account.username} is as it was before.`);
  } finally {
    await refresh();
    document.getElementById(`grant-${scope}`)?.focus({ preventScroll: true });
  }
}
