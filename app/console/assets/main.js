/** The console: who is signed in, which page is shown, and where errors end. */

import { SignedOut, api, signOut } from "./lib/api.js";
import { button, el } from "./lib/dom.js";
import { account } from "./pages/account.js";
import { audit } from "./pages/audit.js";
import { scopes } from "./pages/scopes.js";
import { signInPage } from "./pages/sign-in.js";
import { user } from "./pages/user.js";
import { users } from "./pages/users.js";

/** By the first part of the address; `needs`: whoever lacks that scope is not offered it. */
const PAGES = new Map([
  ["users", { title: "Users", page: users, needs: "read:users" }],
  ["user", { page: user, needs: "read:users" }],
  ["scopes", { title: "Scopes", page: scopes }],
  ["audit", { title: "Audit", page: audit, needs: "read:audit" }],
  ["account", { title: "Account", page: account }],
]);
const bar = document.querySelector("header");
const nav = document.querySelector("nav");
const main = document.querySelector("main");
const notices = document.querySelector("#notices");
const reloaded = performance.getEntriesByType("navigation")[0]?.type === "reload";

/** What ends with the page that is shown. */
let leaving = new AbortController();

/** Show the page that the address names, to the signed-in person as they are now. */
async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  try {
    const me = await api.get("users/me");
    const can = (scope) => !scope || me.scopes.includes("admin") || me.scopes.includes(scope);
    const { name, id, query } = address(can);
    const context = { me, can, id, query, signal, say, refresh };
    showBar(name, can);
    const content = await pageOf(name, can)(context);
    if (signal.aborted) return;
    main.replaceChildren(...content);
    document.title = `${main.querySelector("h1").textContent} · Scopegate`;
  } catch (error) {
    if (!signal.aborted) report(error, failedPage);
  }
}

function failedPage(error) {
  const again = button("Try again", show);
  main.replaceChildren(el("h1", {}, "This page can't be shown"), el("p", {}, error.message), again);
}

/** `#user/<id>?…`; without one, the first page that this person may see. */
function address(can) {
  const [path, query] = location.hash.slice(1).split("?");
  const [name, id] = path.split("/");
  const first = can("read:users") ? "users" : "account";
  return { name: PAGES.has(name) ? name : first, id, query: new URLSearchParams(query) };
}

function pageOf(name, can) {
  const { page, needs } = PAGES.get(name);
  if (can(needs)) return page;
  return () => [el("h1", {}, "Not for you"), el("p", {}, `This page needs the scope ${needs}.`)];
}

function showBar(name, can) {
  const shown = [...PAGES].filter(([, { title, needs }]) => title && can(needs));
  const here = name === "user" ? "users" : name;
  nav.replaceChildren(
    ...shown.map(([to, { title }]) =>
      el("a", { href: `#${to}`, "aria-current": to === here && "page" }, title),
    ),
  );
  bar.hidden = false;
}

/** Draw the page anew after a change, and leave the keyboard where it was. */
async function refresh() {
  const { id } = document.activeElement;
  await show();
  if (id) document.getElementById(id)?.focus();
}

async function navigate() {
  notices.replaceChildren();
  await show();
  // Readers of the screen, and the Tab key, go on from the new page's top.
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function askToSignIn(message) {
  leaving.abort();
  bar.hidden = true;
  notices.replaceChildren();
  document.title = "Sign in · Scopegate";
  main.replaceChildren(...signInPage({ message, signedIn: navigate }));
  main.querySelector("input").focus();
}

/** Tell what was done, or what went wrong, until the next page. */
function say(text, kind = "done") {
  const dismiss = button("×", () => notice.remove(), { class: "quiet", "aria-label": "Dismiss" });
  const role = kind === "problem" ? "alert" : "status";
  const notice = el("div", { class: `notice ${kind}`, role }, el("p", {}, text), dismiss);
  notices.replaceChildren(notice);
}

function report(error, show = ({ message }) => say(message, "problem")) {
  if (error instanceof SignedOut) askToSignIn(error.message);
  else show(error);
}

async function leave() {
  try {
    await signOut();
    askToSignIn("You are signed out.");
  } catch (error) {
    askToSignIn(`You are signed out here, but the session may go on. ${error.message}`);
  }
}

// What a click starts is an async function, and whatever it throws ends here: none goes unseen.
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  report(event.reason);
});
addEventListener("hashchange", navigate);
// The tokens die with the page, and so shall the session.
addEventListener("pagehide", () => void signOut().catch(() => {}));
// Back on a page that the browser had kept: what it shows is nobody's any more.
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) askToSignIn("You left the page, which has signed you out.");
});
document.querySelector("#sign-out").addEventListener("click", leave);
askToSignIn(reloaded ? "The page was loaded anew, which has signed you out." : "");
