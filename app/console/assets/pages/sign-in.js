// @ts-check
/** Sign-in, at this service's own token endpoint. */

import { messageOf, signIn } from "../lib/api.js";
import { el, field, valuesOf } from "../lib/dom.js";

/**
 * @param {object} options
 * @param {string} options.message  Why the user has to sign in; may be empty.
 * @param {() => Promise<void>} options.onSignIn
 */
export function signInPage({ message, onSignIn }) {
  const problem = el("p", { class: "problem", role: "alert" });
  const username = { name: "username", autocomplete: "username", required: true };
  const password = {
    ...username,
    name: "password",
    type: "password",
    autocomplete: "current-password",
  };
  const submit = el("button", { class: "primary" }, "Sign in");

  /** @param {Event} event */
  async function attempt(event) {
    event.preventDefault();
    submit.disabled = true;
    submit.textContent = "Signing in…";
    problem.textContent = "";
    try {
      const { username = "", password = "" } = valuesOf(form);
      await signIn(username, password);
      await onSignIn();
    } catch (error) {
      problem.textContent = messageOf(error);
    } finally {
      submit.disabled = false;
      submit.textContent = "Sign in";
    }
  }

  const form = el(
    "form",
    { submit: attempt },
    field("Username", { ...username, autocapitalize: "none", spellcheck: "false" }),
    field("Password", password),
    problem,
    submit,
  );
  const logo = el("img", { src: "console/assets/icon.svg", alt: "", width: 48, height: 48 });
  const status = el("p", { class: "message", role: "status" }, message);
  const hint = "You stay signed in while this page is open. Reloading it signs you out.";
  return [
    el(
      "div",
      { class: "sign-in" },
      logo,
      el("h1", {}, "Scopegate"),
      message && status,
      form,
      el("small", {}, hint),
    ),
  ];
}
