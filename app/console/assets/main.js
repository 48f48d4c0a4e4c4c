// @ts-check
/** The console: which page is shown, to which user, and how errors are handled. */

/** @import { Child } from "./lib/dom.js" */

import { api, endSession, messageOf, SignedOut, signIn, signOut } from "./lib/api.js";
import { closeDialogs } from "./lib/dialog.js";
import { button, el, find } from "./lib/dom.js";
import { missingScopes, satisfies } from "./lib/permissions.js";
import { leaveToSignIn, takeAnswer, wrongAddress } from "./lib/sign-in.js";
import { accountPage } from "./pages/account.js";
import { auditPage } from "./pages/audit.js";
import { clientsPage } from "./pages/clients.js";
import { scopesPage } from "./pages/scopes.js";
import { signInPage } from "./pages/sign-in.js";
import { userPage } from "./pages/user.js";
import { usersPage } from "./pages/users.js";

/**
 * What a page gets.
 *
 * @typedef {object} Context
 * @property {Api.Me} me  The signed-in user.
 * @property {(scope: string) => boolean} can  Whether that user has the scope.
 * @property {(route: Api.Route) => boolean} may  Whether that user has the scopes of the route.
 * @property {string} id  The address's second part, empty where it has none.
 * @property {URLSearchParams} query
 * @property {AbortSignal} signal  Aborted when the page is left.
 * @property {typeof notify} notify
 * @property {typeof refresh} refresh
 */
/**
 * A page: `route` is the API's route that it can't do without, and `title` its name in the bar.
 *
 * @typedef {object} Page
 * @property {(context: Context) => Promise<Child[]>} content
 * @property {Api.Route} route
 * @property {string} [title]
 */

/**
 * The pages, by the first part of the address.
 *
 * @type {Map<string, Page>}
 */
const PAGES = new Map([
  ["users", { title: "Users", content: usersPage, route: "GET /users" }],
  ["user", { content: userPage, route: "GET /users/{user_id}" }],
  ["scopes", { title: "Scopes", content: scopesPage, route: "GET /scopes" }],
  ["clients", { title: "Clients", content: clientsPage, route: "GET /clients" }],
  ["audit", { title: "Audit", content: auditPage, route: "GET /audit" }],
  ["account", { title: "Account", content: accountPage, route: "GET /users/me" }],
]);
const bar = find("header", HTMLElement);
const nav = find("nav", HTMLElement);
const main = find("main", HTMLElement);
const notices = find("#notices", HTMLElement);

/** Milliseconds after which a page that has not come yet is announced. */
const PATIENCE = 300;

/** Aborted when the current page is left. */
let leaving = new AbortController();

/** Show the page of the address. The user's scopes are loaded again each time. */
async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  main.setAttribute("aria-busy", "true");
  // Before anything is asked: the bar must be right also when no answer comes.
  highlight(address().name);
  try {
    /** @type {Api.Me} */
    const me = await api.get("users/me");
    /** @param {string} scope */
    const can = (scope) => satisfies(me.scopes, scope);
    /** @param {Api.Route} route */
    const may = (route) => missingScopes(me.scopes, route).length === 0;
    const { name, page, id, query } = address(may);
    showBar(may);
    highlight(name);
    const content = may(page.route)
      ? await page.content({ me, can, may, id, query, signal, notify, refresh })
      : forbiddenPage(missingScopes(me.scopes, page.route));
    if (!signal.aborted) fill(content);
  } catch (error) {
    if (!signal.aborted) report(error, failedPage);
  }
}

/** @param {Child[]} content */
function fill(content) {
  main.replaceChildren(...content.flatMap((child) => child || []));
  main.removeAttribute("aria-busy");
  document.title = `${find("h1", HTMLElement, main).textContent} · Scopegate`;
}

/** @param {string[]} missing */
function forbiddenPage(missing) {
  const text = `This page needs the scope ${missing.join(" and ")}.`;
  return [el("h1", {}, "Not allowed"), el("p", {}, text)];
}

/** @param {unknown} error */
function failedPage(error) {
  const again = button("Try again", show);
  fill([el("h1", {}, "This page can't be shown"), el("p", {}, messageOf(error)), again]);
}

/**
 * Parse the address, `#user/<id>?…`. Without a known page, it is the first page the user may see.
 *
 * @param {Context["may"]} may
 */
function address(may = () => Boolean(nav.querySelector('[href="#users"]'))) {
  const [path = "", query] = location.hash.slice(1).split("?");
  const [asked = "", id = ""] = path.split("/");
  const name = PAGES.has(asked) ? asked : may("GET /users") ? "users" : "account";
  const page = /** @type {Page} */ (PAGES.get(name));
  return { name, page, id, query: new URLSearchParams(query) };
}

/** @param {Context["may"]} may */
function showBar(may) {
  const shown = [...PAGES].filter(([, { title, route }]) => title && may(route));
  nav.replaceChildren(...shown.map(([name, { title }]) => el("a", { href: `#${name}` }, title)));
  bar.hidden = false;
}

/**
 * Mark the page's link in the bar.
 *
 * @param {string} name
 */
function highlight(name) {
  const current = name === "user" ? "#users" : `#${name}`;
  for (const link of nav.children) {
    if (link.getAttribute("href") === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** Show the page again after a change, and keep the focus: in its section where it is gone. */
async function refresh() {
  const focused = document.activeElement;
  const places = [focused?.id, focused?.closest("section")?.id];
  await show();
  const [place] = places.flatMap((id) => (id && document.getElementById(id)) || []);
  place?.focus({ preventScroll: true });
}

async function navigate() {
  notices.replaceChildren();
  const announcing = setTimeout(announce, PATIENCE);
  await show().finally(() => clearTimeout(announcing));
  // Screen readers and the Tab key continue at the top of the new page.
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/**
 * Show the page of the new address. A page with values that are not saved stays, with its address.
 *
 * @param {HashChangeEvent} event
 */
async function follow({ oldURL }) {
  if (closeDialogs()) await navigate();
  else history.pushState(null, "", oldURL);
}

/** Show that the page is being loaded, instead of the one before. */
function announce() {
  main.replaceChildren(el("p", { class: "loading", role: "status" }, "Loading…"));
}

/** @param {string} message */
function askToSignIn(message) {
  leaving.abort();
  closeDialogs();
  bar.hidden = true;
  notices.replaceChildren();
  document.title = "Sign in · Scopegate";
  main.replaceChildren(...signInPage(message));
  main.removeAttribute("aria-busy");
  (main.querySelector("button") ?? main).focus();
}

/**
 * Show a message until the next page, and offer to undo what it says.
 *
 * @param {string} text
 * @param {object} options
 * @param {"done" | "problem"} [options.kind]
 * @param {() => Promise<unknown>} [options.undo]
 */
function notify(text, { kind = "done", undo } = {}) {
  const dismiss = button("×", () => notice.remove(), { class: "quiet", "aria-label": "Dismiss" });
  const back =
    undo &&
    button("Undo", async () => {
      notice.remove();
      await undo();
    });
  const role = kind === "problem" ? "alert" : "status";
  const notice = el("div", { class: `notice ${kind}`, role }, el("p", {}, text), back, dismiss);
  notices.replaceChildren(notice);
}

/** @param {unknown} error */
function notifyOf(error) {
  notify(messageOf(error), { kind: "problem" });
}

/**
 * @param {unknown} error
 * @param {(error: unknown) => void} show
 */
function report(error, show = notifyOf) {
  if (error instanceof SignedOut) askToSignIn(error.message);
  else show(error);
}

async function leave() {
  try {
    await signOut();
  } catch (error) {
    const reason = messageOf(error);
    askToSignIn(`You are signed out here, but the session may still be active. ${reason}`);
  }
}

/** Sign in: by the answer in the address, or else by asking for one. */
async function start() {
  try {
    const answer = takeAnswer();
    if (answer) {
      await signIn(answer);
      await navigate();
    } else if (wrongAddress()) {
      askToSignIn("");
    } else {
      await leaveToSignIn();
    }
  } catch (error) {
    askToSignIn(messageOf(error));
  }
}

// Event listeners are async functions: what they throw arrives here, so no error is lost.
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  report(event.reason);
});
addEventListener("hashchange", follow);
// The tokens are lost with the page: end their session too.
addEventListener("pagehide", () => void endSession().catch(() => {}));
// The browser can restore a page from its cache: its session has ended, so it begins anew.
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) location.reload();
});
find("#sign-out", HTMLButtonElement).addEventListener("click", leave);
await start();
