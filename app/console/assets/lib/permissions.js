// @ts-check
/** What a user may do. The page offers nothing else; the API checks every request anyway. */

import { config } from "./config.js";

/**
 * Whether these scopes satisfy a requirement.
 *
 * @param {string[]} held
 * @param {string} scope
 */
export function satisfies(held, scope) {
  return held.includes(config.admin) || held.includes(scope);
}

/**
 * The scopes that a route requires and that are not held.
 *
 * @param {string[]} held
 * @param {Api.Route} route
 */
export function missingScopes(held, route) {
  const required = config.routes[route];
  if (!required) throw new Error(`The service has no route ${route}.`);
  return required.filter((scope) => !satisfies(held, scope));
}
