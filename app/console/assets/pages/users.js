// @ts-check
/** All users: search them, and create new ones. */

/** @import { Context } from "../main.js" */

import { api } from "../lib/api.js";
import { config } from "../lib/config.js";
import { ask } from "../lib/dialog.js";
import { badge, button, choice, el, field, find, time } from "../lib/dom.js";
import { pagedList } from "../lib/paged-list.js";
import { showSecret } from "../lib/secret.js";

/** Milliseconds without a key press after which a search starts. */
const TYPING_PAUSE = 200;

/** @param {Context} context */
export async function usersPage({ may, query, signal }) {
  const search = el("input", {
    ...{ type: "search", id: "search", value: query.get("q"), input: searchSoon },
    ...{ placeholder: "Search by name", "aria-label": "Search by name", autocomplete: "off" },
  });
  const list = pagedList(
    (after) => api.get("users", { q: search.value, after, limit: 25 }),
    userRow,
    "No user matches this name.",
  );
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let pause;

  function searchSoon() {
    clearTimeout(pause);
    pause = setTimeout(async () => {
      if (signal.aborted) return;
      // The browser's Back button then leads from a user's page to the same search.
      history.replaceState(null, "", `#users?${new URLSearchParams({ q: search.value })}`);
      await list.show();
    }, TYPING_PAUSE);
  }

  await list.show();
  const add = may("POST /users") && button("New user", addUser, { id: "add", class: "primary" });
  return [el("div", { class: "top" }, el("h1", {}, "Users"), add), search, list.node];
}

/** @param {Api.UserAnswer} user */
function userRow({ id, username, kind, disabled, created_at }) {
  return el(
    "li",
    {},
    el("a", { href: `#user/${id}`, class: "name" }, username),
    kind === "service" && badge("service"),
    disabled && badge("disabled", "danger"),
    el("span", { class: "aside" }, "since ", time(created_at)),
  );
}

async function addUser() {
  const password = field("Password", {
    name: "password",
    type: "password",
    autocomplete: "new-password",
    required: true,
  });
  const kind = choice("Kind", { name: "kind", change: fitPassword }, config.kinds);

  /** Only a person has a password. */
  function fitPassword() {
    const { value } = find("select", HTMLSelectElement, kind);
    password.hidden = value === "service";
    find("input", HTMLInputElement, password).disabled = password.hidden;
  }

  /** @type {Api.NewUserAnswer | undefined} */
  let created;
  await ask({
    title: "New user",
    text: "A new user has no scopes until you grant some.",
    fields: [
      field("Username", { name: "username", required: true, maxlength: 254 }),
      kind,
      password,
    ],
    verb: "Create",
    action: async (values) => {
      created = await api.post("users", values);
    },
  });
  if (!created) return;
  const { id, client_id, client_secret, secret_id } = created;
  if (client_id && client_secret && secret_id)
    await showSecret({ client_id, client_secret, secret_id });
  location.hash = `#user/${id}`;
}
