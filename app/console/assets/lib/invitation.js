// @ts-check
/** A link by which a person sets their password. */

import { showOnce } from "./dialog.js";

/**
 * Show a new invitation. The service stores its digest only, so it can't be shown again.
 *
 * @param {Api.InvitationAnswer} invitation
 */
export function showInvitation({ link }) {
  return showOnce({
    title: "An invitation",
    text: "The link is shown only once. Hand it over: it is open for 7 days.",
    values: [["Link", link]],
  });
}
