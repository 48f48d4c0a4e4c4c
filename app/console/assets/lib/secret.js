// @ts-check
/** The secret of a service account. */

import { showOnce } from "./dialog.js";

/**
 * Show a new secret. The service stores its digest only, so it can't be shown again.
 *
 * @param {Api.SecretAnswer} secret
 */
export function showSecret({ client_id, client_secret, secret_id }) {
  return showOnce({
    title: "A new secret",
    text: "The secret is shown only once. To revoke it later, you need its id.",
    values: [
      ["Client secret", client_secret],
      ["Client id", client_id],
      ["Secret's id", secret_id],
    ],
  });
}
