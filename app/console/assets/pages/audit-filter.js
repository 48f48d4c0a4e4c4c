// @ts-check
/** Which entries of the audit log are shown: whose, of which action, and from when to when. */

/** @import { Context } from "../main.js" */
/** @import { Query } from "../lib/api.js" */

import { api } from "../lib/api.js";
import { config } from "../lib/config.js";
import { choice, el, field, find, valuesOf } from "../lib/dom.js";
import { startOfDay } from "../lib/times.js";

/**
 * @typedef {object} Filter
 * @property {HTMLElement} node
 * @property {() => Query} query  The parameters of the API.
 * @property {() => boolean} isPast  Whether no new entry can match.
 */

/** Milliseconds without a key press after which a search starts. */
const TYPING_PAUSE = 200;
/** How many names are offered. */
const OFFERED = 10;
const ID = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

/**
 * Create the filter, filled in with what the address asks for.
 *
 * @param {Context} context
 * @param {() => Promise<void>} narrow  Called when it has changed.
 * @returns {Promise<Filter>}
 */
export async function auditFilter({ query, may, signal }, narrow) {
  const search = may("GET /users");
  const offers = el("datalist", { id: "offered-users" });
  const user = field("User", {
    ...{ name: "name", type: "search", list: offers.id, input: searchSoon },
    placeholder: search ? "Name or id" : "Id",
  });
  const userInput = find("input", HTMLInputElement, user);
  const hint = el("p", { class: "hint", role: "status" });
  const actions = [{ name: "", text: "All" }, ...config.actions];
  const action = choice("Action", { name: "action", value: query.get("action"), change }, actions);
  action.classList.add("wide");
  const date = { type: "date", change };
  const form = el(
    "form",
    { class: "filters", submit, role: "search" },
    user,
    action,
    field("From", { ...date, name: "from", value: query.get("from") }),
    field("To", { ...date, name: "to", value: query.get("to") }),
    offers,
    hint,
  );
  let userId = query.get("user") ?? "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let pause;
  let searches = 0;

  function values() {
    const { action = "", from = "", to = "" } = valuesOf(form);
    return { user: userId, action, from, to };
  }

  async function change() {
    if (signal.aborted) return;
    const asked = Object.entries(values()).filter(([, value]) => value);
    history.replaceState(null, "", `#audit?${new URLSearchParams(asked)}`);
    await narrow();
  }

  function searchSoon() {
    clearTimeout(pause);
    pause = setTimeout(() => chooseUser(false), TYPING_PAUSE);
  }

  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    clearTimeout(pause);
    await chooseUser(true);
  }

  /**
   * Offer the users whose names have in them what was typed. Where one alone is meant, show the
   * entries of that one; where it may be several, all entries.
   *
   * @param {boolean} entered  The user has finished typing.
   */
  async function chooseUser(entered) {
    const typed = userInput.value.trim();
    const request = ++searches;
    const found = typed && !ID.test(typed) && search ? await usersNamed(typed) : [];
    if (request !== searches || signal.aborted) return;
    offers.replaceChildren(...found.map(({ username }) => el("option", { value: username })));
    const exact = found.find(({ username }) => username.toLowerCase() === typed.toLowerCase());
    const meant = exact ?? (found.length === 1 ? found[0] : undefined);
    const id = ID.test(typed) ? typed : (meant?.id ?? "");
    hint.textContent = typed && !id ? hintFor(found.length) : "";
    if (meant && entered) userInput.value = meant.username;
    if (id === userId) return;
    userId = id;
    await change();
  }

  if (userId) userInput.value = search ? await nameOf(userId) : userId;

  return {
    node: form,
    query() {
      const { user, action, from, to } = values();
      const since = from && startOfDay(from).toISOString();
      // The last day counts whole.
      return { user, action, since, until: to && startOfDay(to, 1).toISOString() };
    },
    isPast() {
      const { to } = values();
      return to !== "" && startOfDay(to, 1).getTime() <= Date.now();
    },
  };
}

/** @param {number} found */
function hintFor(found) {
  return found === 0
    ? "No user's name has this in it: these are the entries of all users."
    : "Several users' names have this in them. Choose one, or type more of the name.";
}

/**
 * @param {string} part
 * @returns {Promise<Api.UserAnswer[]>}
 */
async function usersNamed(part) {
  const { items } = await api.get("users", { q: part, limit: OFFERED });
  return items;
}

/**
 * @param {string} id
 * @returns {Promise<string>}
 */
async function nameOf(id) {
  return api.get(`users/${encodeURIComponent(id)}`).then(
    (/** @type {Api.UserAnswer} */ { username }) => username,
    () => id,
  );
}
