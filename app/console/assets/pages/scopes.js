/** The scopes there are; an admin registers and removes them. */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { button, el, field } from "../lib/dom.js";

export async function scopes(context) {
  const admin = context.can("admin");
  const found = await api.all("scopes");
  const register =
    admin &&
    button("Register a scope", () => registerScope(context), { id: "register", class: "primary" });
  return [
    el("div", { class: "top" }, el("h1", {}, "Scopes"), register),
    el("ul", { class: "rows" }, ...found.map((scope) => scopeRow(context, scope, admin))),
  ];
}

function scopeRow(context, { name, description }, admin) {
  const text = el("div", { class: "grow" }, el("code", {}, name), el("small", {}, description));
  const remove = button("Remove", () => removeScope(context, name), {
    "aria-label": `Remove ${name}`,
  });
  return el("li", {}, text, admin && remove);
}

async function registerScope({ say, refresh }) {
  let registered;
  await ask({
    title: "Register a scope",
    text: "Nobody holds it by this. For another service that trusts these tokens, for example.",
    fields: [
      field("Name", { name: "name", required: true, maxlength: 128, placeholder: "read:reports" }),
      field("Description", { name: "description", required: true, maxlength: 500 }),
    ],
    verb: "Register",
    action: async ({ name, description }) =>
      (registered = await api.put(`scopes/${encodeURIComponent(name)}`, { description })),
  });
  if (!registered) return;
  say(`${registered.name} can be granted.`);
  await refresh();
}

async function removeScope({ say, refresh }, name) {
  const done = await ask({
    title: `Remove ${name}?`,
    text: "It can't be granted any more. Not while somebody holds it.",
    verb: "Remove",
    danger: true,
    action: () => api.delete(`scopes/${encodeURIComponent(name)}`),
  });
  if (!done) return;
  say(`${name} is no more.`);
  await refresh();
}
