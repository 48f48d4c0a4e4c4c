// @ts-check
/** The audit log, live: new entries appear while the page is open. */

/** @import { Context } from "../main.js" */

import { api, messageOf, Refusal, SignedOut } from "../lib/api.js";
import { config } from "../lib/config.js";
import { badge, choice, el, field, find, time, valuesOf } from "../lib/dom.js";
import { pagedList } from "../lib/paged-list.js";

/** @typedef {{user: string | null, action: string | null}} Filter */
/** @typedef {(id: string) => Promise<string>} NameOf */

/** @type {Map<string, Api.ActionConfig>} */
const ACTIONS = new Map(config.actions.map((action) => [action.name, action]));
/** Milliseconds between two requests for new entries. */
const INTERVAL = 2000;
const PAGE_SIZE = 50;
const ID = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

/** @param {Context} context */
export async function auditPage(context) {
  const { query, signal } = context;
  const filter = { user: query.get("user"), action: query.get("action") };
  const nameOf = usernames(context);
  /**
   * @param {string | null} [after]
   * @returns {Promise<Api.Page_AuditAnswer_>}
   */
  const load = (after) => api.get("audit", { ...filter, after, limit: PAGE_SIZE });
  const list = pagedList(load, (entry) => entryRow(entry, nameOf), "No entries match.");
  const live = badge("live", "good");
  await list.show();
  follow({ load, list, live, signal });
  const heading = el("div", { class: "top" }, el("h1", {}, "Audit log"), live);
  return [heading, filterForm(filter, nameOf), list.node];
}

/**
 * Load new entries until the page is left, while the browser shows it.
 *
 * @param {object} followed
 * @param {() => Promise<Api.Page_AuditAnswer_>} followed.load
 * @param {ReturnType<typeof pagedList<Api.AuditAnswer>>} followed.list
 * @param {HTMLElement} followed.live  Shows whether the list is up to date.
 * @param {AbortSignal} followed.signal
 */
async function follow({ load, list, live, signal }) {
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
    if (signal.aborted || document.visibilityState !== "visible") continue;
    try {
      const { items } = await load();
      // A full page of new entries can hide others behind it: load the list again.
      if (list.prepend(items) === PAGE_SIZE) await list.show();
      live.textContent = "live";
      live.className = "badge good";
    } catch (error) {
      const forbidden = error instanceof Refusal && error.status === 403;
      if (forbidden || error instanceof SignedOut) throw error;
      live.textContent = `not live: ${messageOf(error)}`;
      live.className = "badge danger";
    }
  }
}

/**
 * @param {Filter} filter
 * @param {NameOf} nameOf
 */
function filterForm(filter, nameOf) {
  const user = field("User", { name: "user", type: "search", placeholder: "Name or id" });
  const options = [{ name: "", text: "All" }, ...ACTIONS.values()];
  const action = choice("Action", { name: "action", value: filter.action, change: apply }, options);
  const problem = el("p", { class: "problem", role: "alert" });
  if (filter.user) fillIn(filter.user);

  /** @param {string} id */
  async function fillIn(id) {
    find("input", HTMLInputElement, user).value = await nameOf(id);
  }

  /** @param {Event} event */
  async function apply(event) {
    event.preventDefault();
    const { user = "", action = "" } = valuesOf(form);
    const id = await idOf(user.trim());
    problem.textContent = id === undefined ? "There is no user with this name." : "";
    if (id !== undefined) location.hash = `#audit?${new URLSearchParams({ user: id, action })}`;
  }

  const show = el("button", {}, "Show");
  const form = el("form", { class: "filters", submit: apply }, user, action, show, problem);
  return form;
}

/**
 * Return the id of the user with this name, undefined where there is none. An id stays as it is.
 *
 * @param {string} name
 */
async function idOf(name) {
  if (!name || ID.test(name)) return name;
  /** @type {Api.Page_UserAnswer_} */
  const { items } = await api.get("users", { q: name, limit: 100 });
  return items.find(({ username }) => username.toLowerCase() === name.toLowerCase())?.id;
}

/**
 * Return a function that looks up a username, once for each id. It returns the id itself to a user
 * who may not see other users.
 *
 * @param {Context} context
 * @returns {NameOf}
 */
function usernames({ may }) {
  /** @type {Map<string, Promise<string>>} */
  const known = new Map();

  /** @param {string} id */
  async function load(id) {
    if (!may("GET /users/{user_id}")) return id;
    return api.get(`users/${id}`).then(
      (/** @type {Api.UserAnswer} */ { username }) => username,
      () => id,
    );
  }

  return (id) => {
    const name = known.get(id) ?? load(id);
    known.set(id, name);
    return name;
  };
}

/**
 * @param {Api.AuditAnswer} entry
 * @param {NameOf} nameOf
 */
function entryRow({ at, action, actor, subject, detail, address, request_id }, nameOf) {
  const known = ACTIONS.get(action);
  const what = el(
    "strong",
    { class: known?.warning && "alarming", title: action },
    known?.text ?? action,
  );
  const other = subject && subject !== actor ? [" · ", userLink(subject, nameOf)] : [];
  const facts = Object.entries(detail)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => factOf(name, value));
  return el(
    "li",
    {},
    el(
      "div",
      { class: "grow" },
      el("div", {}, what, ...other),
      el("div", { class: "scopes" }, ...facts),
      el(
        "small",
        {},
        actor ? "by " : "by no signed-in user",
        actor && userLink(actor, nameOf),
        address && ` from ${address}`,
      ),
    ),
    el(
      "span",
      { class: "aside", title: `Request ${request_id ?? "none"}` },
      time(at, { seconds: true }),
    ),
  );
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function factOf(name, value) {
  const text = Array.isArray(value) ? value.join(" ") : String(value);
  return el("span", { class: "fact" }, `${name} `, el("code", {}, text));
}

/**
 * A link that shows the end of the id until the name has been loaded.
 *
 * @param {string} id
 * @param {NameOf} nameOf
 */
function userLink(id, nameOf) {
  const link = el("a", { href: `#user/${id}` }, id.slice(-12));
  nameOf(id).then((name) => {
    link.textContent = name;
  });
  return link;
}
