// @ts-check
/** The secret of a service account. */

import { showOnce } from "./dialog.js";

/**
 * Show a new secret. The service stores its digest only, so it can't be shown again.
 *
 * @param {Omit<Api.NewSecretAnswer, "secret_id">} secret
 */
export function showSecret({ client_id, client_secret }) {
  return showOnce({
    title: "A new secret",
    text: "The secret is shown only once. Copy it to the service that needs it.",
    values: [
      ["Client secret", client_secret],
      ["Client id", client_id],
    ],
  });
}
