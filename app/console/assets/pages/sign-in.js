/** Signing in, at this service's own token endpoint. */

import { signIn } from "../lib/api.js";
import { el, field } from "../lib/dom.js";

export function signInPage({ message, signedIn }) {
  const problem = el("p", { class: "problem", role: "alert" });
  const username = { name: "username", autocomplete: "username", required: true };
  const password = {
    ...username,
    name: "password",
    type: "password",
    autocomplete: "current-password",
  };
  const submit = el("button", { class: "primary" }, "Sign in");

  async function attempt(event) {
    event.preventDefault();
    submit.disabled = true;
    problem.textContent = "";
    try {
      const { username, password } = Object.fromEntries(new FormData(event.target));
      await signIn(username, password);
    } catch (error) {
      problem.textContent = error.message;
      return;
    } finally {
      submit.disabled = false;
    }
    await signedIn();
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
  const memory =
    "You stay signed in for as long as this page is open: loading it anew signs you out.";
  return [
    el(
      "div",
      { class: "sign-in" },
      logo,
      el("h1", {}, "Scopegate"),
      message && status,
      form,
      el("small", {}, memory),
    ),
  ];
}
