// @ts-check
/** Hand what the service has answered to the window of /docs, where Swagger UI waits for it. */

/**
 * What Swagger UI leaves in its window while a person signs in.
 *
 * @typedef {object} Waiting
 * @property {{name: string, code?: string}} auth
 * @property {string} state
 * @property {string} redirectUrl
 * @property {(found: object) => void} callback
 * @property {(error: object) => void} errCb
 */

const waiting = /** @type {{swaggerUIRedirectOauth2?: Waiting} | null} */ (window.opener)
  ?.swaggerUIRedirectOauth2;
if (waiting) {
  hand(waiting, new URLSearchParams(location.search));
  close();
}

/**
 * @param {Waiting} waiting
 * @param {URLSearchParams} answer
 */
function hand({ auth, state, redirectUrl, callback, errCb }, answer) {
  const code = answer.get("code");
  // Another state: the answer is to a sign-in that was not asked for here.
  if (code && answer.get("state") === state) {
    auth.code = code;
    callback({ auth, redirectUrl });
    return;
  }
  const message = answer.get("error_description") ?? "The sign-in was not asked for by this page.";
  errCb({ authId: auth.name, source: "auth", level: "error", message });
}
