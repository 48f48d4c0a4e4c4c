/** The API, and the tokens that it is called with. They are kept in this module's memory alone. */

/** The service's root, behind whatever prefix: this file is <root>/console/assets/lib/api.js. */
const ROOT = new URL("../../../", import.meta.url);
/** The share of its life after which a token is renewed, so that none ends on its way. */
const RENEWED_AFTER = 2 / 3;

/** @type {{access: string, refresh: string, renewAt: number} | null} */
let tokens = null;
/** @type {Promise<void> | null} */
let renewal = null;

/** The API said no; the text is for people. */
export class Refusal extends Error {
  /** @param {number} status  0: there was no answer. */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Nobody is signed in, or no more. */
export class SignedOut extends Error {}

/** Start a session. */
export async function signIn(username, password) {
  tokens = kept(await token({ grant_type: "password", username, password }));
}

/** Forget the tokens, and end the session. */
export async function signOut() {
  const refresh = tokens?.refresh;
  tokens = null;
  // keepalive: it is sent although the page goes away.
  if (refresh) await answered(form("revoke", { token: refresh }, { keepalive: true }));
}

export const api = {
  get: (path, query = {}) => call("GET", `${path}?${new URLSearchParams(given(query))}`),
  post: (path, body) => call("POST", path, body),
  put: (path, body) => call("PUT", path, body),
  patch: (path, body) => call("PATCH", path, body),
  delete: (path) => call("DELETE", path),

  /** Every item of a list, page by page. */
  async all(path) {
    const items = [];
    for (let after; after !== null;) {
      const page = await api.get(path, { limit: 100, after });
      items.push(...page.items);
      after = page.next;
    }
    return items;
  },
};

async function call(method, path, body) {
  if (tokens && Date.now() > tokens.renewAt) await renew();
  let answer = await bearing(method, path, body);
  if (answer.status === 401) {
    // Before "sign in again": the token may have ended while this computer slept.
    await renew();
    answer = await bearing(method, path, body);
  }
  return answered(answer);
}

function bearing(method, path, body) {
  if (!tokens) throw new SignedOut("Please sign in.");
  const headers = { Authorization: `Bearer ${tokens.access}` };
  if (body) headers["Content-Type"] = "application/json";
  return sent(path, { method, headers, body: body && JSON.stringify(body) });
}

/** Use the refresh token up; those who ask meanwhile wait for the same answer. */
function renew() {
  renewal ??= renewed(tokens).finally(() => (renewal = null));
  return renewal;
}

async function renewed(old) {
  if (!old) throw new SignedOut("Please sign in.");
  try {
    const answer = await token({ grant_type: "refresh_token", refresh_token: old.refresh });
    // Not after a sign-out that overtook it.
    if (tokens === old) tokens = kept(answer);
  } catch (error) {
    if (error.status !== 400) throw error;
    tokens = null;
    throw new SignedOut("Your session has ended. Please sign in again.");
  }
}

function kept(answer) {
  const renewAt = Date.now() + answer.expires_in * 1000 * RENEWED_AFTER;
  return { access: answer.access_token, refresh: answer.refresh_token, renewAt };
}

function token(parameters) {
  return answered(form("token", parameters));
}

function form(path, parameters, options) {
  return sent(path, { method: "POST", body: new URLSearchParams(parameters), ...options });
}

async function sent(path, options) {
  try {
    // "omit": the bearer token is all that counts, whatever cookies this host may have.
    return await fetch(new URL(path, ROOT), { ...options, cache: "no-store", credentials: "omit" });
  } catch {
    throw new Refusal(0, "The service can't be reached. Is it running, and are you online?");
  }
}

/** What an answer says. Throws Refusal. */
async function answered(pending) {
  const answer = await pending;
  const text = await answer.text();
  if (!answer.ok) throw new Refusal(answer.status, reason(answer, text));
  return text ? JSON.parse(text) : null;
}

function reason(answer, text) {
  const wait = answer.headers.get("Retry-After");
  return told(text, answer) + (wait ? ` Try again in ${wait} s.` : "");
}

/** The API's own words: OAuth's, FastAPI's, or a list of what does not fit. */
function told(text, answer) {
  try {
    const { detail, error_description } = JSON.parse(text);
    if (!Array.isArray(detail)) return error_description ?? detail;
    return detail.map(({ loc, msg }) => `${loc.slice(1).join(" ")}: ${msg}.`).join(" ");
  } catch {
    // A proxy's answer, most likely.
    return `The service answered ${answer.status}.`;
  }
}

/** Without what is not given: it would be sent as "undefined". */
function given(query) {
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value));
}
