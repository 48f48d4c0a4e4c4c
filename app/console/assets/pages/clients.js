// @ts-check
/** The registered clients: applications that sign people in. */

/** @import { Context } from "../main.js" */

import { api } from "../lib/api.js";
import { config } from "../lib/config.js";
import { ask } from "../lib/dialog.js";
import { area, badge, button, choice, el, field } from "../lib/dom.js";
import { pagedList } from "../lib/paged-list.js";
import { showSecret } from "../lib/secret.js";

const KINDS = [
  { name: "", text: "Public: in a browser or on a device" },
  { name: "confidential", text: "Confidential: on a server, with a secret" },
];
const CONSENTS = [
  { name: "", text: "People are asked" },
  { name: "trusted", text: "Trusted: people are not asked" },
];

/** @param {Context} context */
export async function clientsPage(context) {
  const list = pagedList(
    async (after) => withIds(await api.get("clients", { after, limit: 50 })),
    (client) => clientRow(context, client),
    "No client is registered.",
  );
  await list.show();
  const register =
    context.may("POST /clients") &&
    button("Register a client", () => registerClient(context), {
      id: "register",
      class: "primary",
    });
  return [el("div", { class: "top" }, el("h1", {}, "Clients"), register), list.node];
}

/** @param {{items: Api.ClientAnswer[], next: string | null}} page */
function withIds({ items, next }) {
  return { items: items.map((client) => ({ ...client, id: client.client_id })), next };
}

/**
 * @param {Context} context
 * @param {Api.ClientAnswer} client
 */
function clientRow(context, client) {
  const { name, client_id, redirect_uris, confidential, trusted } = client;
  const ships = redirect_uris.some((uri) => uri.startsWith("/"));
  const change =
    context.may("PATCH /clients/{client_id}") &&
    button("Change", () => changeClient(context, client), {
      id: `change-${client_id}`,
      "aria-label": `Change ${name}`,
    });
  const remove =
    context.may("DELETE /clients/{client_id}") &&
    button("Delete", () => deleteClient(context, client), {
      class: "danger",
      "aria-label": `Delete ${name}`,
    });
  return el(
    "li",
    {},
    el(
      "div",
      { class: "grow" },
      el("strong", {}, name),
      el("code", {}, client_id),
      el("small", {}, redirect_uris.join(" ")),
      el("small", {}, ceilingText(client)),
      el(
        "div",
        { class: "badges" },
        ships && badge("built in"),
        confidential && badge("confidential"),
        trusted && badge("trusted"),
      ),
    ),
    !ships && el("div", { class: "buttons" }, change, remove),
  );
}

/** @param {Api.ClientAnswer} client */
function ceilingText({ scopes }) {
  if (!scopes) return `At most: every scope but ${config.admin}`;
  return scopes.length ? `At most: ${scopes.join(" ")}` : "No scopes";
}

/**
 * The fields of what can be changed of a client.
 *
 * @param {Context} context
 * @param {Partial<Api.ClientAnswer>} client
 */
function fieldsOf(context, client) {
  const all = context.can(config.admin) ? `every scope but ${config.admin}` : "what you hold";
  const uris = { rows: 3, spellcheck: "false" };
  return [
    field("Name", { name: "name", required: true, maxlength: 500, value: client.name }),
    area(
      "Redirect URIs",
      { ...uris, name: "redirect_uris", required: true },
      client.redirect_uris?.join("\n"),
      "One a line. People are sent back there after they have signed in.",
    ),
    area(
      "Redirect URIs after signing out",
      { ...uris, name: "post_logout_redirect_uris" },
      client.post_logout_redirect_uris?.join("\n"),
    ),
    field(
      "Scopes",
      { name: "scopes", value: client.scopes?.join(" "), spellcheck: "false" },
      `The most that its tokens may have, separated by spaces. Left empty: ${all}.`,
    ),
    choice(
      "Consent",
      {
        name: "trusted",
        value: client.trusted ? "trusted" : "",
        disabled: !context.can(config.admin),
      },
      CONSENTS,
    ),
  ];
}

/** @param {Record<string, string>} values */
function termsOf({
  name,
  redirect_uris = "",
  post_logout_redirect_uris = "",
  scopes = "",
  trusted,
}) {
  return {
    name,
    redirect_uris: words(redirect_uris),
    post_logout_redirect_uris: words(post_logout_redirect_uris),
    scopes: scopes.trim() ? words(scopes) : null,
    trusted: trusted === "trusted",
  };
}

/** @param {string} text */
function words(text) {
  return text.split(/\s+/).filter(Boolean);
}

/** @param {Context} context */
async function registerClient(context) {
  /** @type {Api.RegisteredClient | undefined} */
  let made;
  const id = field(
    "Client id",
    { name: "client_id", maxlength: 254, spellcheck: "false" },
    "It never changes. Left empty: one is made.",
  );
  const kind = choice("Kind", { name: "kind" }, KINDS);
  await ask({
    title: "Register a client",
    text: "An application that signs people in at this service.",
    fields: [...fieldsOf(context, {}), id, kind],
    verb: "Register",
    action: async (values) => {
      const confidential = values.kind === "confidential";
      const client_id = values.client_id || null;
      made = await api.post("clients", { ...termsOf(values), client_id, confidential });
    },
  });
  if (!made) return;
  const { name, client_id, client_secret } = made;
  if (client_secret) await showSecret({ client_id, client_secret });
  context.notify(`${name} is registered. Its client id is ${client_id}.`);
  await context.refresh();
}

/**
 * @param {Context} context
 * @param {Api.ClientAnswer} client
 */
async function changeClient(context, client) {
  const path = `clients/${encodeURIComponent(client.client_id)}`;
  const done = await ask({
    title: `Change ${client.name}`,
    text: "What it loses, its tokens lose at once.",
    fields: fieldsOf(context, client),
    verb: "Save",
    action: (values) => api.patch(path, termsOf(values)),
  });
  if (!done) return;
  context.notify(`${client.name} is changed.`);
  await context.refresh();
}

/**
 * @param {Context} context
 * @param {Api.ClientAnswer} client
 */
async function deleteClient({ notify, refresh }, { name, client_id }) {
  const done = await ask({
    title: `Delete ${name}?`,
    text: "All sessions that people have with it end at once.",
    verb: "Delete",
    danger: true,
    action: () => api.delete(`clients/${encodeURIComponent(client_id)}`),
  });
  if (!done) return;
  notify(`${name} is deleted.`);
  await refresh();
}
