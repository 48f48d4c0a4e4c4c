/** All users: to be searched, and a new one to be made. */

import { api } from "../lib/api.js";
import { ask, reveal } from "../lib/dialog.js";
import { badge, button, choice, el, field, moment } from "../lib/dom.js";
import { pages } from "../lib/paged-list.js";

/** Milliseconds without a key after which a search starts. */
const TYPING = 200;

export async function users({ can, query, signal }) {
  const search = el("input", {
    ...{ type: "search", id: "search", value: query.get("q"), input: searched },
    ...{ placeholder: "Search by name", "aria-label": "Search by name", autocomplete: "off" },
  });
  const load = (after) => api.get("users", { q: search.value, after, limit: 25 });
  const list = pages(load, userRow, "No user has such a name.");
  let typing;

  function searched() {
    clearTimeout(typing);
    typing = setTimeout(async () => {
      if (signal.aborted) return;
      // So that the way back from a user's page leads to the same search.
      history.replaceState(null, "", `#users?${new URLSearchParams({ q: search.value })}`);
      await list.show();
    }, TYPING);
  }

  await list.show();
  const add = can("write:users") && button("New user", addUser, { id: "add", class: "primary" });
  return [el("div", { class: "top" }, el("h1", {}, "Users"), add), search, list.node];
}

function userRow({ id, username, kind, disabled, created_at }) {
  return el(
    "li",
    {},
    el("a", { href: `#user/${id}`, class: "name" }, username),
    kind === "service" && badge("service"),
    disabled && badge("disabled", "danger"),
    el("span", { class: "aside" }, "since ", moment(created_at)),
  );
}

async function addUser() {
  const kinds = [
    ["person", "A person, with a password"],
    ["service", "A service, with a secret"],
  ];
  const password = field("Password", {
    name: "password",
    type: "password",
    autocomplete: "new-password",
    required: true,
  });
  const kind = choice("Kind", { name: "kind", change: ({ target }) => fit(target.value) }, kinds);
  let made;

  function fit(chosen) {
    password.hidden = chosen === "service";
    password.querySelector("input").disabled = password.hidden;
  }

  await ask({
    title: "New user",
    text: "They hold nothing until you grant it.",
    fields: [
      field("Username", { name: "username", required: true, maxlength: 128 }),
      kind,
      password,
    ],
    verb: "Make",
    action: async (values) => (made = await api.post("users", values)),
  });
  if (made?.client_secret) await showSecret(made);
  if (made) location.hash = `#user/${made.id}`;
}

/** A service account's secret is shown this once. */
export function showSecret({ client_id, client_secret, secret_id }) {
  return reveal({
    title: "A new secret",
    text: "It is shown this once. The secret's id is what to revoke it by.",
    values: [
      ["Client secret", client_secret],
      ["Client id", client_id],
      ["Secret's id", secret_id],
    ],
  });
}
