// @ts-check
/** A person's e-mail address, and links by which they set their password. */

/** @import { UserContext } from "./user.js" */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { badge, button, el, field } from "../lib/dom.js";
import { showInvitation } from "../lib/invitation.js";

/** @param {UserContext} context */
export function address({ account }) {
  if (!account.email) return false;
  return el(
    "span",
    { class: "address" },
    account.email,
    " ",
    account.email_verified ? badge("confirmed", "good") : badge("not confirmed"),
  );
}

/** @param {UserContext} context */
export function addressActions(context) {
  if (context.account.kind !== "person") return [];
  return [
    context.offers("PATCH /users/{user_id}") &&
      button("Change address", () => changeAddress(context), { id: "address" }),
    context.offers("POST /users/{user_id}/invitation") &&
      button("Invite", () => invite(context), { id: "invite" }),
  ];
}

/** @param {UserContext} context */
async function changeAddress({ path, account, notify, refresh }) {
  const email = { name: "email", type: "email", maxlength: 254, value: account.email ?? "" };
  const done = await ask({
    title: `Change the e-mail address of ${account.username}`,
    text: "A link goes to the new address. It counts once the person has used it.",
    fields: [field("E-mail address", email)],
    verb: "Change",
    action: (values) => api.patch(path, { email: values.email || null }),
  });
  if (!done) return;
  notify(`${account.username} has another address.`);
  await refresh();
}

/** @param {UserContext} context */
async function invite({ path, account, refresh }) {
  /** @type {Api.InvitationAnswer | undefined} */
  let made;
  const done = await ask({
    title: `Invite ${account.username}?`,
    text: "The person sets a password by a link, and all their sessions end then. A link is mailed too, if they have an address.",
    verb: "Make link",
    action: async () => {
      made = await api.post(`${path}/invitation`, {});
    },
  });
  if (!done || !made) return;
  await showInvitation(made);
  await refresh();
}
