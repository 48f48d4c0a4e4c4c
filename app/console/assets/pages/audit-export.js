// @ts-check
/** The audit log as a file for spreadsheets: all entries that the filter lets through. */

/** @import { Filter } from "./audit-filter.js" */

import { api } from "../lib/api.js";
import { button, el } from "../lib/dom.js";
import { localDate, localIso } from "../lib/times.js";

/** As many as the API gives at once. */
const PAGE_SIZE = 100;
const COLUMNS = [
  "at",
  "action",
  "actor",
  "actor_name",
  "subject",
  "subject_name",
  "detail",
  "address",
  "request_id",
];
/**
 * Where a spreadsheet would find a formula: at the beginning of a cell, or behind what separates
 * cells. Which character that is depends on the reader's language and settings, so a quoted value
 * can be split too. Names, reasons and user agents may hold anything.
 */
const BEFORE_FORMULA = /(^|[,;|\t\r\n])(?=[\s"']*[=+\-@＝＋－＠])|^(?=[\t\r\n])/g;

/**
 * @param {Filter} filter
 * @param {AbortSignal} signal  Ends the export when the page is left.
 */
export function exportButton(filter, signal) {
  const label = "Export CSV";
  const start = button(label, run, { id: "export" });

  async function run() {
    start.disabled = true;
    try {
      const rows = await collect(filter, signal, (count) => {
        start.textContent = `Exporting… ${count.toLocaleString()}`;
      });
      if (!signal.aborted) save([COLUMNS, ...rows].map(lineOf).join(""));
    } finally {
      start.disabled = false;
      start.textContent = label;
    }
  }

  return start;
}

/**
 * @param {Filter} filter
 * @param {AbortSignal} signal
 * @param {(count: number) => void} tell
 */
async function collect(filter, signal, tell) {
  const query = filter.query();
  /** @type {unknown[][]} */
  const rows = [];
  /** @type {string | null | undefined} */
  let after;
  while (after !== null && !signal.aborted) {
    /** @type {Api.AuditPage} */
    const page = await api.get("audit", { ...query, after, limit: PAGE_SIZE });
    rows.push(...page.items.map((entry) => rowOf(entry, page.names ?? {})));
    tell(rows.length);
    after = page.next;
  }
  return rows;
}

/**
 * @param {Api.AuditAnswer} entry
 * @param {Record<string, string>} names
 */
function rowOf({ at, action, actor, subject, detail, address, request_id }, names) {
  return [
    localIso(new Date(at)),
    action,
    actor,
    actor && names[actor],
    subject,
    subject && names[subject],
    JSON.stringify(detail),
    address,
    request_id,
  ];
}

/** @param {unknown[]} cells */
function lineOf(cells) {
  return `${cells.map((cell) => quoted(String(cell ?? ""))).join(",")}\r\n`;
}

/** @param {string} cell */
function quoted(cell) {
  // As OWASP advises against CSV injection: an apostrophe makes it text.
  const text = cell.replace(BEFORE_FORMULA, "$1'");
  return `"${text.replaceAll('"', '""')}"`;
}

/** @param {string} text */
function save(text) {
  // With the mark that tells spreadsheets that this is UTF-8.
  const url = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  const link = el("a", { href: url, download: `scopegate-audit-${localDate(new Date())}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url));
}
