// @ts-check
/** What is shown to whom is not signed in. The sign-in itself is the service's own page. */

import { button, el } from "../lib/dom.js";
import { leaveToSignIn, wrongAddress } from "../lib/sign-in.js";

/** @param {string} message  Why they are not signed in. */
export function signInPage(message) {
  const problem = wrongAddress();
  const logo = el("img", { src: "console/assets/icon.svg", alt: "", width: 48, height: 48 });
  return [
    el(
      "div",
      { class: "sign-in" },
      logo,
      el("h1", {}, "Scopegate"),
      el("p", { class: "message", role: "status" }, problem || message),
      !problem && button("Sign in", leaveToSignIn, { class: "primary" }),
    ),
  ];
}
