// @ts-check
/** The registered scopes. An admin can register and remove scopes. */

/** @import { Context } from "../main.js" */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { badge, button, el, field } from "../lib/dom.js";

/** @param {Context} context */
export async function scopesPage(context) {
  /** @type {Api.ScopeAnswer[]} */
  const scopes = await api.all("scopes");
  const register =
    context.may("PUT /scopes/{name}") &&
    button("Register a scope", () => registerScope(context), { id: "register", class: "primary" });
  return [
    el("div", { class: "top" }, el("h1", {}, "Scopes"), register),
    el("ul", { class: "rows" }, ...scopes.map((scope) => scopeRow(context, scope))),
  ];
}

/**
 * @param {Context} context
 * @param {Api.ScopeAnswer} scope
 */
function scopeRow(context, { name, description, built_in }) {
  const text = el("div", { class: "grow" }, el("code", {}, name), el("small", {}, description));
  const holders =
    context.may("GET /users") &&
    el(
      "a",
      {
        href: `#users?${new URLSearchParams({ scope: name })}`,
        "aria-label": `Holders of ${name}`,
      },
      "Holders",
    );
  const remove =
    !built_in &&
    context.may("DELETE /scopes/{name}") &&
    button("Remove", () => removeScope(context, name), { "aria-label": `Remove ${name}` });
  return el("li", {}, text, built_in && badge("built in"), holders, remove);
}

/** @param {Context} context */
async function registerScope({ notify, refresh }) {
  let registered = "";
  await ask({
    title: "Register a scope",
    text: "Registering a scope grants it to no user. Register one for each right that another service checks.",
    fields: [
      field("Name", { name: "name", required: true, maxlength: 128, placeholder: "read:orders" }),
      field("Description", { name: "description", required: true, maxlength: 500 }),
    ],
    verb: "Register",
    action: async ({ name = "", description = "" }) => {
      /** @type {Api.ScopeAnswer} */
      const scope = await api.put(`scopes/${encodeURIComponent(name)}`, { description });
      registered = scope.name;
    },
  });
  if (!registered) return;
  notify(`${registered} can be granted.`);
  await refresh();
}

/**
 * @param {Context} context
 * @param {string} name
 */
async function removeScope({ notify, refresh }, name) {
  const done = await ask({
    title: `Remove ${name}?`,
    text: "Then it can't be granted. A scope that a user holds can't be removed.",
    verb: "Remove",
    danger: true,
    action: () => api.delete(`scopes/${encodeURIComponent(name)}`),
  });
  if (!done) return;
  notify(`${name} is removed.`);
  await refresh();
}
