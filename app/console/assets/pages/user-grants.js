/** What a user holds, as switches. */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { button, el, field, moment, section } from "../lib/dom.js";

export async function grantsSection(about) {
  const held = new Map(about.grants.map((grant) => [grant.scope, grant]));
  const rows = (await api.all("scopes")).map((scope) =>
    grantRow(about, scope, held.get(scope.name)),
  );
  return section("Grants", [], el("ul", { class: "rows" }, ...rows));
}

function grantRow(about, { name, description }, grant) {
  const id = `grant-${name}`;
  // Nobody grants or revokes what they don't hold.
  const mine = about.within && about.can("write:grants") && about.can(name);
  const toggle = el("input", {
    ...{ type: "checkbox", role: "switch", id, checked: Boolean(grant), disabled: !mine },
    change: () => (grant ? revoke(about, name) : give(about, name)),
  });
  const label = el("label", { for: id }, el("code", {}, name), el("small", {}, description));
  const edit = button("Edit", () => give(about, name, grant), {
    ...{ id: `terms-${name}`, "aria-label": `End and reason of ${name}` },
  });
  const text = el("div", { class: "grow" }, label, grant && terms(grant));
  return el("li", {}, toggle, text, grant && mine && edit);
}

function terms({ granted_at, expires_at, reason }) {
  return el(
    "small",
    { class: "terms" },
    el("span", {}, "since ", moment(granted_at)),
    expires_at && el("strong", {}, "until ", moment(expires_at)),
    reason && el("q", {}, reason),
  );
}

async function revoke({ path, account, say, refresh }, scope) {
  try {
    await api.delete(`${path}/grants/${encodeURIComponent(scope)}`);
    say(`${account.username} holds ${scope} no more, nor do tokens already out.`);
  } finally {
    // The switch shows what is so, also when that was refused.
    await refresh();
  }
}

async function give({ path, account, say, refresh }, scope, grant) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const until = grant?.expires_at && local(grant.expires_at);
  const end = { name: "end", type: "datetime-local", value: until };
  const reason = { name: "reason", maxlength: 500, value: grant?.reason };

  function asked({ end, reason }) {
    // Left as it was, it keeps its seconds, which the field does not show.
    const expires_at = end === until ? grant.expires_at : end && new Date(end).toISOString();
    return { expires_at: expires_at || null, reason: reason || null };
  }

  const done = await ask({
    title: grant
      ? `${scope}, held by ${account.username}`
      : `Grant ${scope} to ${account.username}`,
    fields: [
      field("Until", end, `Empty: until it is revoked. Time zone: ${zone}.`),
      field("Reason", reason, "Kept with the grant and in the audit log."),
    ],
    verb: grant ? "Save" : "Grant",
    action: (values) => api.put(`${path}/grants/${encodeURIComponent(scope)}`, asked(values)),
  });
  if (done) say(`${account.username} holds ${scope}.`);
  await refresh();
}

/** What a datetime-local input takes: the reader's time, without its zone. */
function local(iso) {
  const date = new Date(iso);
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
