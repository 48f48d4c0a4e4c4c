// @ts-check
/** Calls to the API, and the tokens for them. The tokens are in this module's memory alone. */

/** @import { Answer } from "./sign-in.js" */

import { config } from "./config.js";
import { HERE, leaveToSignOut, ROOT } from "./sign-in.js";

/** A token is renewed after this share of its lifetime, so that none expires during a request. */
const RENEWED_AFTER = 2 / 3;

/** @typedef {{access: string, refresh: string, id: string, renewAt: number}} Tokens */

/** @type {Tokens | null} */
let tokens = null;
/** @type {Promise<void> | null} */
let renewal = null;

/** The API refused a request. The message is for the user. */
export class Refusal extends Error {
  /**
   * @param {number} status  0 where no response arrived.
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** No user is signed in, or the session has ended. */
export class SignedOut extends Error {}

/**
 * What to show the user of an error.
 *
 * @param {unknown} error
 */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Start a session with what the sign-in has answered.
 *
 * @param {Answer} answer
 */
export async function signIn({ code, verifier }) {
  const grant_type = "authorization_code";
  const given = { grant_type, code, code_verifier: verifier, redirect_uri: HERE };
  tokens = tokensOf(await requestTokens(given));
}

/** Forget the tokens and end the page's session. Whoever has signed in to the browser stays so. */
export async function endSession() {
  const refresh = tokens?.refresh;
  tokens = null;
  // keepalive: the browser completes the request although the page goes away.
  if (refresh) await read(await postForm("revoke", { token: refresh }, { keepalive: true }));
}

/** End the page's session and the browser's, and leave the page. */
export async function signOut() {
  const id = tokens?.id ?? "";
  await endSession();
  leaveToSignOut(id);
}

/** @typedef {Record<string, string | number | null | undefined>} Query */

export const api = {
  /**
   * @param {string} path
   * @param {Query} query
   */
  get: (path, query = {}) => call("GET", `${path}?${searchParams(query)}`),
  /**
   * @param {string} path
   * @param {object} [body]
   */
  post: (path, body) => call("POST", path, body),
  /**
   * @param {string} path
   * @param {object} body
   */
  put: (path, body) => call("PUT", path, body),
  /**
   * @param {string} path
   * @param {object} body
   */
  patch: (path, body) => call("PATCH", path, body),
  /** @param {string} path */
  delete: (path) => call("DELETE", path),

  /**
   * All items of a list, one page after the other.
   *
   * @param {string} path
   * @returns {Promise<any[]>}
   */
  async all(path) {
    const items = [];
    /** @type {string | null | undefined} */
    let after;
    while (after !== null) {
      const page = await api.get(path, { limit: 100, after });
      items.push(...page.items);
      after = page.next;
    }
    return items;
  },
};

/**
 * Call the API with the access token. Throws Refusal or SignedOut.
 *
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 * @returns {Promise<any>}
 */
async function call(method, path, body) {
  if (tokens && Date.now() > tokens.renewAt) await renew();
  let response = await sendWithToken(method, path, body);
  if (response.status === 401) {
    // The token may have expired while this computer slept: renew it before giving up.
    await renew();
    response = await sendWithToken(method, path, body);
  }
  return read(response);
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 */
async function sendWithToken(method, path, body) {
  if (!tokens) throw new SignedOut("Please sign in.");
  const headers = new Headers({ Authorization: `Bearer ${tokens.access}` });
  if (!body) return send(path, { method, headers });
  headers.set("Content-Type", "application/json");
  return send(path, { method, headers, body: JSON.stringify(body) });
}

/** Use the refresh token. Concurrent calls share one request, because a refresh token works once. */
function renew() {
  renewal ??= replaceTokens(tokens).finally(() => {
    renewal = null;
  });
  return renewal;
}

/** @param {Tokens | null} old */
async function replaceTokens(old) {
  if (!old) throw new SignedOut("Please sign in.");
  try {
    const answer = await requestTokens({ grant_type: "refresh_token", refresh_token: old.refresh });
    // A sign-out during the request wins: then there are no tokens to replace.
    if (tokens === old) tokens = { ...tokensOf(answer), id: old.id };
  } catch (error) {
    if (!(error instanceof Refusal) || error.status !== 400) throw error;
    tokens = null;
    throw new SignedOut("Your session has ended. Please sign in again.");
  }
}

/**
 * @param {Api.TokenAnswer} answer
 * @returns {Tokens}
 */
function tokensOf({ access_token, refresh_token, id_token, expires_in }) {
  const renewAt = Date.now() + expires_in * 1000 * RENEWED_AFTER;
  return { access: access_token, refresh: refresh_token ?? "", id: id_token ?? "", renewAt };
}

/** @param {Record<string, string>} parameters */
async function requestTokens(parameters) {
  return read(await postForm("token", { ...parameters, client_id: config.client_id }));
}

/**
 * @param {string} path
 * @param {Record<string, string>} parameters
 * @param {RequestInit} options
 */
function postForm(path, parameters, options = {}) {
  return send(path, { method: "POST", body: new URLSearchParams(parameters), ...options });
}

/**
 * @param {string} path
 * @param {RequestInit} options
 */
async function send(path, options) {
  try {
    // "omit": only the bearer token authenticates, whatever cookies this host has set.
    return await fetch(new URL(path, ROOT), { ...options, cache: "no-store", credentials: "omit" });
  } catch {
    throw new Refusal(0, "The service can't be reached. Is it running, and are you online?");
  }
}

/**
 * Return a response's JSON, null for an empty body. Throws Refusal for an error response.
 *
 * @param {Response} response
 */
async function read(response) {
  const text = await response.text();
  if (!response.ok) throw new Refusal(response.status, reasonOf(response, text));
  return text ? JSON.parse(text) : null;
}

/**
 * @param {Response} response
 * @param {string} text
 */
function reasonOf(response, text) {
  const wait = response.headers.get("Retry-After");
  return detailOf(response, text) + (wait ? ` Try again in ${wait} s.` : "");
}

/**
 * The API's own text: OAuth's description, FastAPI's detail, or a list of invalid fields.
 *
 * @param {Response} response
 * @param {string} text
 * @returns {string}
 */
function detailOf(response, text) {
  try {
    /** @type {Partial<Api.OAuthErrorAnswer> & {detail?: string | Api.Problem[]}} */
    const { detail, error_description } = JSON.parse(text);
    if (Array.isArray(detail)) return detail.map(problemOf).join(" ");
    return error_description ?? detail ?? statusOf(response);
  } catch {
    // The body is not JSON: most likely a proxy answered.
    return statusOf(response);
  }
}

/** @param {Api.Problem} problem */
function problemOf({ loc, msg }) {
  return `${loc.slice(1).join(" ")}: ${msg.replace(/\.$/, "")}.`;
}

/** @param {Response} response */
function statusOf(response) {
  return `The service answered ${response.status}.`;
}

/**
 * Empty values are left out: URLSearchParams would send "undefined".
 *
 * @param {Query} query
 */
function searchParams(query) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value) parameters.set(name, String(value));
  return parameters;
}
