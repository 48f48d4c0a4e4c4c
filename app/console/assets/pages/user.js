/** One user: what they hold, where they are signed in, and what can be done about it. */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { badge, button, el, field, moment, section } from "../lib/dom.js";
import { grantsSection } from "./user-grants.js";
import { pages } from "../lib/paged-list.js";
import { sessionRow } from "../lib/session-row.js";
import { showSecret } from "./users.js";

export async function user(context) {
  const path = `users/${encodeURIComponent(context.id)}`;
  const [account, grants] = await Promise.all([api.get(path), api.all(`${path}/grants`)]);
  // Nobody manages an account that holds a scope they lack, so that is not offered.
  const within = grants.every(({ scope }) => context.can(scope));
  const about = { ...context, path, account, grants, within };
  return [
    header(about),
    !within &&
      el(
        "p",
        { class: "hint" },
        "This account holds a scope that you don't: you may look, and change nothing.",
      ),
    await grantsSection(about),
    account.kind === "service" && secretsSection(about),
    await sessionsSection(about),
  ].filter(Boolean);
}

function header(about) {
  const { id, username, kind, disabled, created_at } = about.account;
  const audit = about.can("read:audit") && el("a", { href: `#audit?user=${id}` }, "Audit log");
  return el(
    "div",
    {},
    el(
      "div",
      { class: "top" },
      el("h1", {}, username),
      ...(mayManage(about) ? actions(about) : []),
    ),
    el(
      "p",
      { class: "facts" },
      badge(kind),
      disabled ? badge("disabled", "danger") : badge("enabled", "good"),
      el("span", {}, "since ", moment(created_at)),
      el("code", {}, id),
      audit,
    ),
  );
}

function mayManage({ can, within }) {
  return can("write:users") && within;
}

function actions(about) {
  const { kind, disabled } = about.account;
  return [
    kind === "person" && button("Set password", () => setPassword(about), { id: "set-password" }),
    disabled
      ? button("Enable", () => enable(about), { id: "switch" })
      : button("Disable", () => disable(about), { id: "switch", class: "danger" }),
  ];
}

async function enable({ path, account, say, refresh }) {
  await api.patch(path, { disabled: false });
  say(`${account.username} may sign in again.`);
  await refresh();
}

async function disable({ path, account, say, refresh }) {
  const done = await ask({
    title: `Disable ${account.username}?`,
    text: "They can't sign in any more, and all their sessions end.",
    verb: "Disable",
    danger: true,
    action: () => api.patch(path, { disabled: true }),
  });
  if (!done) return;
  say(`${account.username} is disabled.`);
  await refresh();
}

async function setPassword({ path, account, say, refresh }) {
  const password = {
    name: "password",
    type: "password",
    autocomplete: "new-password",
    required: true,
  };
  const done = await ask({
    title: `A new password for ${account.username}`,
    text: "All their sessions end.",
    fields: [field("New password", password)],
    verb: "Set",
    action: (values) => api.post(`${path}/password`, values),
  });
  if (!done) return;
  say(`${account.username} has a new password.`);
  await refresh();
}

function secretsSection(about) {
  const text =
    "Two can be live at once, to change over from one to the other. Neither can be shown again.";
  const offered = mayManage(about)
    ? [
        button("Revoke a secret", () => revokeSecret(about), {
          id: "revoke-secret",
          class: "danger",
        }),
        button("New secret", () => makeSecret(about), { id: "make-secret" }),
      ]
    : [];
  return section("Secrets", offered, el("p", { class: "hint" }, text));
}

async function makeSecret({ path }) {
  await showSecret(await api.post(`${path}/secrets`));
}

async function revokeSecret({ path, say }) {
  const id = { name: "secret", required: true };
  const done = await ask({
    title: "Revoke a secret",
    fields: [
      field("Secret's id", id, "It was shown beside the secret, and the audit log tells it."),
    ],
    verb: "Revoke",
    danger: true,
    action: ({ secret }) => api.delete(`${path}/secrets/${encodeURIComponent(secret.trim())}`),
  });
  if (done) say("The secret works no more.");
}

async function sessionsSection(about) {
  const load = (after) => api.get(`${about.path}/sessions`, { after, limit: 10 });
  const list = pages(load, (session) => sessionRow(session), "Signed in nowhere.");
  await list.show();
  const all = button("End all", () => endAll(about), { id: "end-all", class: "danger" });
  return section("Sessions", mayManage(about) ? [all] : [], list.node);
}

async function endAll({ path, account, say, refresh }) {
  const done = await ask({
    title: `End all sessions of ${account.username}?`,
    text: "Every token of theirs stops working at once. They may sign in again.",
    verb: "End all",
    danger: true,
    action: () => api.delete(`${path}/sessions`),
  });
  if (!done) return;
  say("All sessions have ended.");
  await refresh();
}
