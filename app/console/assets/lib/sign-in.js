// @ts-check
/**
 * Sign-in at the service's own page: an authorization code with PKCE (RFC 6749 §4.1, RFC 7636).
 *
 * The page is left for it. Whoever has signed in to this browser comes back at once.
 */

import { config } from "./config.js";

/** The service's root, whatever its prefix: this file is <root>/console/assets/lib/sign-in.js. */
export const ROOT = new URL("../../../", import.meta.url);
/** Where the console is. */
export const HERE = new URL("console", ROOT).href;
/** Where this tab keeps what belongs to its sign-in, until the answer comes. */
const KEPT = "scopegate.sign-in";
const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

/** @typedef {{code: string, verifier: string}} Answer */

/** Why no user can sign in to the console at this address; empty where they can. */
export function wrongAddress() {
  const home = new URL(`${config.issuer}/console`);
  const onLoopback = [home, location].every(({ hostname }) => LOOPBACK.includes(hostname));
  const here = new URL(HERE);
  if (onLoopback) here.hostname = home.hostname;
  if (here.href !== home.href)
    return `The console of this service is at ${home.href}: SCOPEGATE_ISSUER says so.`;
  return window.isSecureContext ? "" : "The console needs https, or localhost.";
}

/** Leave this page for the sign-in. */
export async function leaveToSignIn() {
  const verifier = randomText();
  const state = randomText();
  sessionStorage.setItem(KEPT, JSON.stringify({ verifier, state, hash: location.hash }));
  const query = new URLSearchParams({
    response_type: "code",
    client_id: config.client_id,
    redirect_uri: HERE,
    code_challenge: await challengeOf(verifier),
    code_challenge_method: "S256",
    state,
  });
  location.replace(new URL(`authorize?${query}`, ROOT));
}

/**
 * Leave this page to end the browser's session too.
 *
 * @param {string} idToken  It shows that the person is to be signed out whom this page signed in.
 */
export function leaveToSignOut(idToken) {
  const query = new URLSearchParams({
    id_token_hint: idToken,
    client_id: config.client_id,
    post_logout_redirect_uri: `${HERE}?signed-out`,
  });
  location.assign(new URL(`logout?${query}`, ROOT));
}

/**
 * Take the answer to a sign-in out of the address, which gets back what it was before.
 *
 * Null where there is none. Throws an Error with what to tell the person where it is another one.
 *
 * @returns {Answer | null}
 */
export function takeAnswer() {
  const answer = new URLSearchParams(location.search);
  const kept = sessionStorage.getItem(KEPT);
  sessionStorage.removeItem(KEPT);
  if (!answer.size) return null;
  const { verifier, state, hash } = kept ? JSON.parse(kept) : {};
  history.replaceState(null, "", HERE + (hash ?? location.hash));
  const code = answer.get("code");
  // Another state: the answer to another request, which may sign in another user.
  const isOurs = Boolean(kept) && answer.get("state") === state;
  if (isOurs && code) return { code, verifier };
  if (isOurs && answer.has("error")) throw new Error(reasonOf(answer));
  throw new Error(answer.has("signed-out") ? "You are signed out." : "Sign in again.");
}

/** @param {URLSearchParams} answer */
function reasonOf(answer) {
  return `The sign-in was refused. ${answer.get("error_description") ?? ""}`;
}

function randomText() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

/** @param {string} verifier */
async function challengeOf(verifier) {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  return base64url(new Uint8Array(hash));
}

/** @param {Uint8Array} bytes */
function base64url(bytes) {
  const text = btoa(String.fromCharCode(...bytes));
  return text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
