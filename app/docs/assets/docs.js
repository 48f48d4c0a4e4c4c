// @ts-check
/** Start Swagger UI, which swagger-ui-bundle.js has defined. */

/** The scheme by which a person signs in, as the API's description calls it. */
const SIGN_IN = "OAuth2PasswordBearer";

/** @typedef {{has: (name: string) => boolean}} Definition */
/** @typedef {{filter: (keep: (definition: Definition) => boolean) => Definitions}} Definitions */
/** @typedef {(...parameters: unknown[]) => Definitions | undefined} Selector */

/**
 * Leave one way to sign in. The dialog would put others first, and accept any password for them:
 * services authenticate at /introspect, in its form.
 */
function OneWayToSignIn() {
  const definitionsToAuthorize =
    (/** @type {Selector} */ original) =>
    (/** @type {unknown[]} */ ...parameters) =>
      original(...parameters)?.filter((definition) => definition.has(SIGN_IN));
  return { statePlugins: { auth: { wrapSelectors: { definitionsToAuthorize } } } };
}

// @ts-expect-error: the bundle has no types.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  showExtensions: true,
  plugins: [OneWayToSignIn],
});
