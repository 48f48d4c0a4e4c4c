// @ts-check
/** Dialogs: the browser's own, which hold the focus, close at Escape and return the focus. */

import { messageOf, SignedOut } from "./api.js";
import { button, el, field, valuesOf } from "./dom.js";

/**
 * Ask the user for values and act on them. A refusal leaves the dialog open and shows the reason.
 *
 * @param {object} question
 * @param {string} question.title
 * @param {string} [question.text]
 * @param {Node[]} [question.fields]
 * @param {string} question.verb  The submit button's label.
 * @param {boolean} [question.danger]  The action removes something.
 * @param {(values: Record<string, string>) => Promise<unknown>} question.action
 * @returns {Promise<boolean>}  Whether the action succeeded.
 */
export async function ask({ title, text, fields = [], verb, danger = false, action }) {
  const problem = el("p", { class: "problem", role: "alert" });
  const confirm = el("button", { class: danger ? "danger" : "primary" }, verb);
  const cancel = button("Cancel", () => dialog.close());
  const buttons = el("div", { class: "buttons" }, cancel, confirm);
  const form = el("form", { submit }, text && el("p", {}, text), ...fields, problem, buttons);
  const dialog = el("dialog", { "aria-label": title }, el("h2", {}, title), form);
  let done = false;

  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    confirm.disabled = true;
    problem.textContent = "";
    try {
      await action(valuesOf(form));
      done = true;
      dialog.close();
    } catch (error) {
      problem.textContent = messageOf(error);
      if (!(error instanceof SignedOut)) return;
      dialog.close();
      throw error;
    } finally {
      confirm.disabled = false;
    }
  }

  await closed(dialog);
  return done;
}

/**
 * Show values that can't be shown again.
 *
 * @param {object} message
 * @param {string} message.title
 * @param {string} message.text
 * @param {[name: string, value: string][]} message.values
 */
export function showOnce({ title, text, values }) {
  const list = values.map(([name, value]) => field(name, { readonly: true, value, focus: select }));
  const close = button("I have saved it", () => dialog.close(), { class: "primary" });
  const buttons = el("div", { class: "buttons" }, close);
  const dialog = el(
    "dialog",
    { "aria-label": title },
    el("h2", {}, title),
    el("p", {}, text),
    ...list,
    buttons,
  );
  return closed(dialog);
}

/** @param {Event} event */
function select({ target }) {
  if (target instanceof HTMLInputElement) target.select();
}

/**
 * Show the dialog and wait until it closes. Its element is removed, with any password in it.
 *
 * @param {HTMLDialogElement} dialog
 * @returns {Promise<void>}
 */
function closed(dialog) {
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
