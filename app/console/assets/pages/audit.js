// @ts-check
/** The audit log, live: new entries appear while the page is open. */

/** @import { Context } from "../main.js" */
/** @import { Filter } from "./audit-filter.js" */

import { api, messageOf, Refusal, SignedOut } from "../lib/api.js";
import { config } from "../lib/config.js";
import { badge, el } from "../lib/dom.js";
import { pagedList } from "../lib/paged-list.js";
import { isTime, time } from "../lib/times.js";
import { exportButton } from "./audit-export.js";
import { auditFilter } from "./audit-filter.js";

/** @typedef {Map<string, string>} Names  What users are called, by their ids. */

/** @type {Map<string, Api.ActionConfig>} */
const ACTIONS = new Map(config.actions.map((action) => [action.name, action]));
/** Milliseconds between two requests for new entries. */
const INTERVAL = 2000;
const PAGE_SIZE = 50;

/** @param {Context} context */
export async function auditPage(context) {
  const { signal } = context;
  /** @type {Names} */
  const names = new Map();
  const live = badge("live", "good");
  const filter = await auditFilter(context, narrow);
  const list = pagedList(load, (entry) => entryRow(entry, names), "No entries match.");

  /**
   * @param {string | null} [after]
   * @returns {Promise<Api.AuditPage>}
   */
  async function load(after) {
    const page = await api.get("audit", { ...filter.query(), after, limit: PAGE_SIZE });
    for (const [id, name] of Object.entries(page.names ?? {})) names.set(id, name);
    return page;
  }

  async function narrow() {
    if (signal.aborted) return;
    live.hidden = filter.isPast();
    await list.show();
  }

  await narrow();
  follow({ load, list, live, filter, signal });
  const heading = el(
    "div",
    { class: "top" },
    el("h1", {}, "Audit log"),
    live,
    exportButton(filter, signal),
  );
  return [heading, filter.node, list.node];
}

/**
 * Load new entries until the page is left, while the browser shows it.
 *
 * @param {object} followed
 * @param {() => Promise<Api.AuditPage>} followed.load
 * @param {ReturnType<typeof pagedList<Api.AuditAnswer>>} followed.list
 * @param {HTMLElement} followed.live  Shows whether the list is up to date.
 * @param {Filter} followed.filter
 * @param {AbortSignal} followed.signal
 */
async function follow({ load, list, live, filter, signal }) {
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
    if (signal.aborted || live.hidden || document.visibilityState !== "visible") continue;
    const asked = JSON.stringify(filter.query());
    try {
      const { items } = await load();
      // What was asked by another filter does not belong into this list.
      if (asked !== JSON.stringify(filter.query())) continue;
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
 * @param {Api.AuditAnswer} entry
 * @param {Names} names
 */
function entryRow({ at, action, actor, subject, detail, address, request_id }, names) {
  const known = ACTIONS.get(action);
  const what = el(
    "strong",
    { class: known?.warning && "alarming", title: action },
    known?.text ?? action,
  );
  const other = subject && subject !== actor ? [" · ", userLink(subject, names)] : [];
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
        actor && userLink(actor, names),
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
  const shown = isTime(value) ? time(value) : el("code", {}, text);
  return el("span", { class: "fact" }, `${name.replaceAll("_", " ")} `, shown);
}

/**
 * @param {string} id
 * @param {Names} names
 */
function userLink(id, names) {
  return el("a", { href: `#user/${id}` }, names.get(id) ?? id.slice(-12));
}
