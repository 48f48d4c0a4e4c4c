// @ts-check
/** A user's grants, as switches: a section of the user's page. */

/** @import { UserContext } from "./user.js" */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { button, el, field, section, time } from "../lib/dom.js";

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
  const editable =
    context.manageable && context.may("PUT /users/{user_id}/grants/{scope}") && context.can(name);
  const toggle = el("input", {
    ...{ type: "checkbox", role: "switch", id, checked: Boolean(grant), disabled: !editable },
    change: () => (grant ? revoke(context, name) : give(context, name)),
  });
  const label = el("label", { for: id }, el("code", {}, name), el("small", {}, description));
  const edit = button("Edit", () => give(context, name, grant), {
    ...{ id: `terms-${name}`, "aria-label": `End and reason of ${name}` },
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
    reason && el("q", {}, reason),
  );
}

/**
 * @param {UserContext} context
 * @param {string} scope
 */
async function revoke({ path, account, notify, refresh }, scope) {
  try {
    await api.delete(`${path}/grants/${encodeURIComponent(scope)}`);
    notify(`${account.username} no longer holds ${scope}. Tokens already issued lose it too.`);
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
async function give({ path, account, notify, refresh }, scope, grant) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const shownEnd = grant?.expires_at && localTime(grant.expires_at);
  const end = { name: "end", type: "datetime-local", value: shownEnd };
  const reason = { name: "reason", maxlength: 500, value: grant?.reason };

  /**
   * @param {Record<string, string>} values
   * @returns {Api.GrantTerms}
   */
  function termsOf({ end, reason }) {
    // The field shows no seconds: an end that the user left alone keeps them.
    if (grant && end === shownEnd) return { expires_at: grant.expires_at, reason: reason || null };
    return { expires_at: end ? new Date(end).toISOString() : null, reason: reason || null };
  }

  const done = await ask({
    title: grant ? `${scope} for ${account.username}` : `Grant ${scope} to ${account.username}`,
    fields: [
      field("Until", end, `Leave empty for no end. Time zone: ${zone}.`),
      field("Reason", reason, "Stored with the grant and in the audit log."),
    ],
    verb: grant ? "Save" : "Grant",
    action: (values) => api.put(`${path}/grants/${encodeURIComponent(scope)}`, termsOf(values)),
  });
  if (done) notify(`${account.username} holds ${scope}.`);
  await refresh();
}

/**
 * The value of a datetime-local input: the time in the reader's time zone, without the zone.
 *
 * @param {string} iso
 */
function localTime(iso) {
  const date = new Date(iso);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
