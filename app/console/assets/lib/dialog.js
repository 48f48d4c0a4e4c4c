/** Dialogs: the browser's own, which keep the focus, close at Escape and give the focus back. */

import { SignedOut } from "./api.js";
import { button, el, field } from "./dom.js";

/**
 * Ask for what is needed and do it. The dialog stays open, and says why, while it is refused.
 *
 * @param {object} question
 * @param {string} question.title
 * @param {string} [question.text]
 * @param {Node[]} [question.fields]
 * @param {string} question.verb  What the button says.
 * @param {boolean} [question.danger]  It takes something away.
 * @param {(values: Object<string, string>) => Promise<unknown>} question.action
 * @returns {Promise<boolean>}  Whether it was done.
 */
export function ask({ title, text, fields = [], verb, danger, action }) {
  const problem = el("p", { class: "problem", role: "alert" });
  const confirm = el("button", { class: danger ? "danger" : "primary" }, verb);
  const cancel = button("Cancel", () => dialog.close());
  const buttons = el("div", { class: "buttons" }, cancel, confirm);
  const form = el("form", { submit }, text && el("p", {}, text), ...fields, problem, buttons);
  const dialog = el("dialog", { "aria-label": title }, el("h2", {}, title), form);
  let done = false;

  async function submit(event) {
    event.preventDefault();
    confirm.disabled = true;
    problem.textContent = "";
    try {
      await action(Object.fromEntries(new FormData(form)));
      done = true;
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
      if (!(error instanceof SignedOut)) return;
      dialog.close();
      throw error;
    } finally {
      confirm.disabled = false;
    }
  }
  return shown(dialog).then(() => done);
}

/** Show what is shown once. */
export function reveal({ title, text, values }) {
  const list = values.map(([name, value]) =>
    field(name, { readonly: true, value, focus: ({ target }) => target.select() }),
  );
  const close = button("I have kept it", () => dialog.close(), { class: "primary" });
  const buttons = el("div", { class: "buttons" }, close);
  const dialog = el(
    "dialog",
    { "aria-label": title },
    el("h2", {}, title),
    el("p", {}, text),
    ...list,
    buttons,
  );
  return shown(dialog);
}

/** Closed dialogs leave nothing behind, neither a password nor a secret. */
function shown(dialog) {
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
