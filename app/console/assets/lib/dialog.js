// @ts-check
/** Dialogs: the browser's own, which hold the focus, close at Escape and return the focus. */

import { messageOf, SignedOut } from "./api.js";
import { button, el, labelled, valuesOf } from "./dom.js";

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
  /** @type {Promise<void> | undefined} */
  let acting;

  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    acting = act();
    await acting;
  }

  async function act() {
    confirm.disabled = true;
    problem.textContent = "";
    try {
      await action(valuesOf(form));
      done = true;
      dialog.close();
    } catch (error) {
      problem.textContent = messageOf(error);
      // Where the dialog was closed meanwhile, the page shows the reason.
      if (dialog.open && !(error instanceof SignedOut)) return;
      dialog.close();
      throw error;
    } finally {
      confirm.disabled = false;
    }
  }

  await closed(dialog);
  // The service may have done it although the dialog was closed: a new secret must still be shown.
  await acting?.catch(() => {});
  return done;
}

/**
 * Close the dialogs of a page that is being left. Return false if one must stay, with the page: it
 * shows values that are not saved, and says so.
 */
export function closeDialogs() {
  return [...document.querySelectorAll("dialog")].every((dialog) => {
    // As the Escape key asks.
    const closes = dialog.dispatchEvent(new Event("cancel", { cancelable: true }));
    if (closes) dialog.close();
    return closes;
  });
}

/**
 * Show values that can't be shown again: until the user says that they are saved.
 *
 * @param {object} message
 * @param {string} message.title
 * @param {string} message.text
 * @param {[name: string, value: string][]} message.values
 */
export function showOnce({ title, text, values }) {
  let saved = false;
  const confirm = () => {
    saved = true;
    dialog.close();
  };
  const reminder = el("p", { class: "problem", role: "alert" });
  /** @param {Event} event */
  const remind = (event) => {
    keep(event);
    reminder.textContent = "Save this first: it can't be shown again.";
  };
  const buttons = el(
    "div",
    { class: "buttons" },
    button("I have saved it", confirm, { class: "primary" }),
  );
  const dialog = el(
    "dialog",
    { "aria-label": title, closedby: "none", cancel: remind },
    el("h2", {}, title),
    el("p", {}, text),
    ...values.map(([name, value]) => copyable(name, value)),
    reminder,
    buttons,
  );
  // A browser closes a dialog at a second Escape whatever the page says: then it is opened again.
  dialog.addEventListener("close", (event) => {
    if (saved) return;
    event.stopImmediatePropagation();
    dialog.showModal();
  });
  addEventListener("beforeunload", keep);
  // A user who leaves although the browser has asked gives them up: the browser may keep the page.
  addEventListener("pagehide", confirm);
  return closed(dialog).finally(() => {
    removeEventListener("beforeunload", keep);
    removeEventListener("pagehide", confirm);
  });
}

/** @param {Event} event */
function keep(event) {
  event.preventDefault();
}

/**
 * A value in full, with a button that copies it.
 *
 * @param {string} name
 * @param {string} value
 */
function copyable(name, value) {
  const text = el("textarea", { readonly: true, rows: 2, focus: () => text.select() }, value);
  const copy = button("Copy", () => copyText(text, copy));
  return el("div", { class: "copyable" }, labelled(name, text), copy);
}

/**
 * @param {HTMLTextAreaElement} text
 * @param {HTMLElement} copy
 */
async function copyText(text, copy) {
  text.select();
  try {
    // Without https a page has no clipboard, but the old way still works.
    if (navigator.clipboard) await navigator.clipboard.writeText(text.value);
    else if (!document.execCommand("copy")) throw new Error("not copied");
    copy.replaceChildren("Copied");
  } catch {
    copy.replaceChildren("Selected: copy it");
  }
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
