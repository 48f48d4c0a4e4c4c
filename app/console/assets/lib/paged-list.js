// @ts-check
/** Lists that are loaded page by page. */

import { button, el } from "./dom.js";

/** The oldest rows are removed above this number, so that a list that stays open can't grow forever. */
const MAX_ROWS = 1000;

/**
 * Create a list. `show` loads its first page, or the page after an id; `prepend` adds new items.
 *
 * @template {{id: string}} T
 * @param {(after?: string | null) => Promise<{items: T[], next: string | null}>} load
 * @param {(item: T) => HTMLElement} rowOf
 * @param {string} emptyText  Shown while the list is empty.
 */
export function pagedList(load, rowOf, emptyText) {
  const list = el("ul", { class: "rows" });
  const empty = el("p", { class: "nothing", hidden: true }, emptyText);
  const more = button("Show more", () => show(next), { class: "more", hidden: true });
  const node = el("div", {}, list, empty, more);
  /** @type {string | null} */
  let next = null;
  let requests = 0;

  /** @param {string | null} [after] */
  async function show(after) {
    const request = ++requests;
    node.setAttribute("aria-busy", "true");
    more.disabled = true;
    try {
      const page = await load(after);
      // Responses can arrive in another order: only the latest request counts.
      if (request !== requests) return;
      if (!after) list.replaceChildren();
      list.append(...page.items.map(identifiedRow));
      update(page.next);
    } catch (error) {
      if (request === requests && !after) clear();
      throw error;
    } finally {
      if (request === requests) {
        node.removeAttribute("aria-busy");
        more.disabled = false;
      }
    }
  }

  /**
   * Add the items that the list lacks on top, and return their number.
   *
   * @param {T[]} items
   */
  function prepend(items) {
    const known = new Set(rows().map((row) => row.dataset.id));
    const added = items.filter(({ id }) => !known.has(id));
    list.prepend(...added.map(identifiedRow));
    const surplus = rows().slice(MAX_ROWS);
    for (const row of surplus) row.remove();
    update(surplus.length ? (rows().at(-1)?.dataset.id ?? null) : next);
    return added.length;
  }

  /** Show nothing: what was shown is not what was asked for. */
  function clear() {
    list.replaceChildren();
    update(null);
    empty.hidden = true;
  }

  function rows() {
    return /** @type {HTMLElement[]} */ ([...list.children]);
  }

  /** @param {T} item */
  function identifiedRow(item) {
    const row = rowOf(item);
    row.dataset.id = item.id;
    return row;
  }

  /** @param {string | null} cursor */
  function update(cursor) {
    next = cursor;
    more.hidden = !next;
    empty.hidden = list.childElementCount > 0;
  }

  return { node, show, prepend };
}
