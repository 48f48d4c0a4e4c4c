/** The audit log, live: what is done meanwhile appears while somebody looks. */

import { SignedOut, api } from "../lib/api.js";
import { badge, choice, el, field, moment } from "../lib/dom.js";
import { pages } from "../lib/paged-list.js";

const ACTIONS = new Map([
  ["login.succeeded", "Signed in"],
  ["login.failed", "Sign-in refused"],
  ["login.throttled", "Sign-in slowed down"],
  ["session.ended", "Session ended"],
  ["session.reuse_detected", "Refresh token used twice"],
  ["session.grace_used", "Refresh token used again from another network"],
  ["user.created", "User made"],
  ["user.changed", "User renamed"],
  ["user.disabled", "User disabled"],
  ["user.enabled", "User enabled"],
  ["password.changed", "Password changed"],
  ["grant.made", "Granted"],
  ["grant.revoked", "Revoked"],
  ["scope.registered", "Scope registered"],
  ["scope.removed", "Scope removed"],
  ["key.rotated", "Key rotated"],
  ["secret.made", "Secret made"],
  ["secret.revoked", "Secret revoked"],
  ["database.recovered", "Database recovered"],
]);
const ALARMING = new Set([
  "login.failed",
  "login.throttled",
  "session.reuse_detected",
  "session.grace_used",
]);
/** Milliseconds between two looks. */
const INTERVAL = 2000;
const PAGE = 50;

export async function audit(context) {
  const { query, signal } = context;
  const filter = { user: query.get("user"), action: query.get("action") };
  const load = (after) => api.get("audit", { ...filter, after, limit: PAGE });
  const nameOf = names(context);
  const list = pages(load, (entry) => entryRow(entry, nameOf), "Nothing of the kind was done.");
  const live = badge("live", "good");
  await list.show();
  follow({ load, list, live, signal });
  const heading = el("div", { class: "top" }, el("h1", {}, "Audit log"), live);
  return [heading, filters(context, filter, nameOf), list.node];
}

/** Look for what is new, until the page is left, while it is in sight. */
async function follow({ load, list, live, signal }) {
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
    if (signal.aborted || document.visibilityState !== "visible") continue;
    try {
      const { items } = await load();
      // All of them new: there may be more between, so begin again from the top.
      if (list.prepend(items) === PAGE) await list.show();
      live.textContent = "live";
      live.className = "badge good";
    } catch (error) {
      if (error instanceof SignedOut || error.status === 403) throw error;
      live.textContent = `not live: ${error.message}`;
      live.className = "badge danger";
    }
  }
}

function filters(context, filter, nameOf) {
  const user = field("User", { name: "user", type: "search", placeholder: "Name or id" });
  const options = [["", "All"], ...ACTIONS];
  const action = choice("Action", { name: "action", value: filter.action, change: apply }, options);
  const problem = el("p", { class: "problem", role: "alert" });
  if (filter.user) nameOf(filter.user).then((name) => (user.querySelector("input").value = name));

  async function apply(event) {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(form));
    const id = await idOf(values.user.trim());
    problem.textContent = id === undefined ? "There is no user of this name." : "";
    if (id !== undefined)
      location.hash = `#audit?${new URLSearchParams({ user: id, action: values.action })}`;
  }

  const find = el("button", {}, "Show");
  const form = el("form", { class: "filters", submit: apply }, user, action, find, problem);
  return form;
}

const ID = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

/** The id of the user of this name; undefined when there is none. */
async function idOf(name) {
  if (!name || ID.test(name)) return name;
  const { items } = await api.get("users", { q: name, limit: 100 });
  return items.find(({ username }) => username.toLowerCase() === name.toLowerCase())?.id;
}

/** Names by id, each asked for once; the id itself for whoever may not see users. */
function names({ can }) {
  const known = new Map();
  const ask = async (id) => {
    if (!can("read:users")) return id;
    return api.get(`users/${id}`).then(
      ({ username }) => username,
      () => id,
    );
  };
  return (id) => known.get(id) ?? known.set(id, ask(id)).get(id);
}

function entryRow({ at, action, actor, subject, detail, address, request_id }, nameOf) {
  const what = el(
    "strong",
    { class: ALARMING.has(action) && "alarming", title: action },
    ACTIONS.get(action) ?? action,
  );
  const whom = subject && subject !== actor && [" · ", userLink(subject, nameOf)];
  const facts = Object.entries(detail)
    .filter(([, value]) => value !== null)
    .map(fact);
  return el(
    "li",
    {},
    el(
      "div",
      { class: "grow" },
      el("div", {}, what, ...(whom || [])),
      el("div", { class: "scopes" }, ...facts),
      el(
        "small",
        {},
        actor ? "by " : "by nobody signed in",
        actor && userLink(actor, nameOf),
        address && ` from ${address}`,
      ),
    ),
    el(
      "span",
      { class: "aside", title: `Request ${request_id ?? "none"}` },
      moment(at, { seconds: true }),
    ),
  );
}

function fact([name, value]) {
  const text = Array.isArray(value) ? value.join(" ") : String(value);
  return el("span", { class: "fact" }, `${name} `, el("code", {}, text));
}

function userLink(id, nameOf) {
  const link = el("a", { href: `#user/${id}` }, id.slice(-12));
  nameOf(id).then((name) => (link.textContent = name));
  return link;
}
