/** One's own account: what one may do, one's password, one's sessions. */

import { api } from "../lib/api.js";
import { ask } from "../lib/dialog.js";
import { badge, button, el, field, moment, section } from "../lib/dom.js";
import { pages } from "../lib/paged-list.js";
import { sessionRow } from "../lib/session-row.js";

export async function account(context) {
  const { me } = context;
  const change = button("Change password", () => changePassword(context), {
    id: "change-password",
  });
  return [
    el("div", { class: "top" }, el("h1", {}, me.username), me.kind === "person" && change),
    el(
      "p",
      { class: "facts" },
      badge(me.kind),
      el("span", {}, "since ", moment(me.created_at)),
      el("code", {}, me.id),
    ),
    section("What you hold", [], holdings(me)),
    await sessionsSection(context),
  ];
}

function holdings({ granted, granted_until, scopes }) {
  const rows = granted.map((scope) =>
    el(
      "li",
      {},
      el("code", { class: "grow" }, scope),
      granted_until[scope] && el("small", {}, "until ", moment(granted_until[scope])),
      !scopes.includes(scope) && el("small", {}, "from your next sign-in on"),
    ),
  );
  return rows.length
    ? el("ul", { class: "rows" }, ...rows)
    : el("p", { class: "nothing" }, "Nothing is granted to you.");
}

async function sessionsSection(context) {
  const load = (after) => api.get("users/me/sessions", { after, limit: 10 });
  const list = pages(load, (session) => sessionRow(session, endButton(context, session)), "None.");
  await list.show();
  const all = button("End all", () => endAll(context), { id: "end-all", class: "danger" });
  return section("Where you are signed in", [all], list.node);
}

function endButton({ say, refresh }, { id }) {
  return button("End", async () => {
    await api.delete(`users/me/sessions/${id}`);
    say("The session has ended.");
    await refresh();
  });
}

async function endAll({ refresh }) {
  const done = await ask({
    title: "End all your sessions?",
    text: "This one ends too: you will sign in anew.",
    verb: "End all",
    danger: true,
    action: () => api.delete("users/me/sessions"),
  });
  if (done) await refresh();
}

async function changePassword({ say, refresh }) {
  const password = { type: "password", required: true };
  const done = await ask({
    title: "Change your password",
    text: "All your other sessions end.",
    fields: [
      field("Current password", {
        ...password,
        name: "current_password",
        autocomplete: "current-password",
      }),
      field("New password", { ...password, name: "new_password", autocomplete: "new-password" }),
    ],
    verb: "Change",
    action: (values) => api.post("users/me/password", values),
  });
  if (!done) return;
  say("Your password is changed.");
  await refresh();
}
