// @ts-check
/** All users, newest first: search and narrow them, and create new ones. */

/** @import { Context } from "../main.js" */

import { api } from "../lib/api.js";
import { config } from "../lib/config.js";
import { ask } from "../lib/dialog.js";
import { badge, button, choice, el, field, find, valuesOf } from "../lib/dom.js";
import { showInvitation } from "../lib/invitation.js";
import { pagedList } from "../lib/paged-list.js";
import { showSecret } from "../lib/secret.js";
import { time } from "../lib/times.js";

/** Milliseconds without a key press after which a search starts. */
const TYPING_PAUSE = 200;
/** The service counts no further. */
const MOST_COUNTED = 10_000;
const KINDS = [
  { name: "", text: "All" },
  { name: "person", text: "People" },
  { name: "service", text: "Services" },
];
const STATES = [
  { name: "", text: "All" },
  { name: "false", text: "Enabled" },
  { name: "true", text: "Disabled" },
];

/** @param {Context} context */
export async function usersPage({ may, query, signal }) {
  const count = el("p", { class: "hint", role: "status" });
  const filters = await filterForm(query, narrow);
  const list = pagedList(load, userRow, "No user matches.");

  /**
   * @param {string | null} [after]
   * @returns {Promise<Api.UserPage>}
   */
  async function load(after) {
    const page = await api.get("users", { ...valuesOf(filters), after, limit: 25 });
    if (typeof page.count === "number") count.textContent = countText(page.count);
    return page;
  }

  async function narrow() {
    if (signal.aborted) return;
    // The browser's Back button then leads from a user's page to the same list.
    history.replaceState(null, "", `#users?${new URLSearchParams(valuesOf(filters))}`);
    try {
      await list.show();
    } catch (error) {
      count.textContent = "";
      throw error;
    }
  }

  await list.show();
  const add = may("POST /users") && button("New user", addUser, { id: "add", class: "primary" });
  return [el("div", { class: "top" }, el("h1", {}, "Users"), add), filters, count, list.node];
}

/**
 * @param {URLSearchParams} query
 * @param {() => Promise<void>} narrow  Called when a filter has changed.
 */
async function filterForm(query, narrow) {
  /** @type {Api.ScopeAnswer[]} */
  const scopes = await api.all("scopes");
  const names = scopes.map(({ name }) => ({ name, text: name }));
  const options = [{ name: "", text: "Any or none" }, ...names];
  const held = { name: "scope", value: query.get("scope"), change: narrow };
  const scope = choice("Granted scope", held, options);
  scope.classList.add("wide");
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let pause;

  function narrowSoon() {
    clearTimeout(pause);
    pause = setTimeout(narrow, TYPING_PAUSE);
  }

  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    clearTimeout(pause);
    await narrow();
  }

  return el(
    "form",
    { class: "filters", submit, role: "search" },
    field("Search by name", {
      type: "search",
      name: "q",
      value: query.get("q"),
      input: narrowSoon,
    }),
    choice("Accounts", { name: "kind", value: query.get("kind"), change: narrow }, KINDS),
    choice("State", { name: "disabled", value: query.get("disabled"), change: narrow }, STATES),
    scope,
  );
}

/** @param {number} count */
function countText(count) {
  if (count > MOST_COUNTED) return `More than ${MOST_COUNTED.toLocaleString()} users`;
  return count === 1 ? "1 user" : `${count.toLocaleString()} users`;
}

/** @param {Api.UserAnswer} user */
function userRow({ id, username, kind, disabled, created_at, last_sign_in_at }) {
  return el(
    "li",
    {},
    el("a", { href: `#user/${id}`, class: "name" }, username),
    kind === "service" && badge("service"),
    disabled && badge("disabled", "danger"),
    el(
      "span",
      { class: "aside terms" },
      el("span", {}, "since ", time(created_at)),
      el("span", {}, ...lastSignIn(last_sign_in_at)),
    ),
  );
}

/**
 * When the user has signed in last, in words.
 *
 * @param {string | null | undefined} moment
 */
export function lastSignIn(moment) {
  return moment ? ["last sign-in ", time(moment)] : ["no sign-in recorded"];
}

async function addUser() {
  const password = field("Password", {
    name: "password",
    type: "password",
    autocomplete: "new-password",
  });
  const kind = choice("Kind", { name: "kind", change: fitPassword }, config.kinds);

  const email = field("E-mail address", { name: "email", type: "email", maxlength: 254 });

  /** Only a person has a password, or an address. */
  function fitPassword() {
    const { value } = find("select", HTMLSelectElement, kind);
    for (const each of [password, email]) {
      each.hidden = value === "service";
      find("input", HTMLInputElement, each).disabled = each.hidden;
    }
  }

  /** @type {Api.NewUserAnswer | undefined} */
  let created;
  await ask({
    title: "New user",
    text: "A new user has no scopes until you grant some. Without a password, a person is invited.",
    fields: [
      field("Username", { name: "username", required: true, maxlength: 254 }),
      kind,
      password,
      email,
    ],
    verb: "Create",
    action: async (values) => {
      // An empty field is no password and no address.
      const given = Object.entries(values).filter(([, value]) => value !== "");
      created = await api.post("users", Object.fromEntries(given));
    },
  });
  if (!created) return;
  const { id, client_id, client_secret, invitation } = created;
  if (invitation) await showInvitation(invitation);
  if (client_id && client_secret) await showSecret({ client_id, client_secret });
  location.hash = `#user/${id}`;
}
