/** Lists that come in pages. */

import { button, el } from "./dom.js";

/** Older rows go when there are more: a page that is looked at for days must not grow for days. */
const MOST = 1000;

/**
 * @param {(after?: string) => Promise<{items: object[], next: string | null}>} load  One page.
 * @param {(item: object) => HTMLElement} row
 * @param {string} nothing  What to say when there is nothing.
 */
export function pages(load, row, nothing) {
  const list = el("ul", { class: "rows" });
  const none = el("p", { class: "nothing", hidden: true }, nothing);
  const more = button("Show more", () => show(next), { class: "more", hidden: true });
  let next = null;
  let turn = 0;

  async function show(after) {
    const mine = ++turn;
    const page = await load(after);
    // What was asked for later counts, also when it was answered earlier.
    if (mine !== turn) return;
    if (!after) list.replaceChildren();
    list.append(...page.items.map(keyed));
    settle(page.next);
  }

  /** Put what is new on top. */
  function prepend(items) {
    const there = new Set([...list.children].map((element) => element.dataset.id));
    const fresh = items.filter(({ id }) => !there.has(id));
    list.prepend(...fresh.map(keyed));
    const surplus = [...list.children].slice(MOST);
    for (const old of surplus) old.remove();
    settle(surplus.length ? list.lastElementChild.dataset.id : next);
    return fresh.length;
  }

  function keyed(item) {
    const element = row(item);
    element.dataset.id = item.id;
    return element;
  }

  function settle(cursor) {
    next = cursor;
    more.hidden = !next;
    none.hidden = list.childElementCount > 0;
  }

  return { node: el("div", {}, list, none, more), show, prepend };
}
