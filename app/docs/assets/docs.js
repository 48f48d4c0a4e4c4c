// @ts-check
/** Start Swagger UI, which swagger-ui-bundle.js has defined. */

/** The scheme by which a person signs in, as the API's description calls it. */
const SIGN_IN = "OAuth2PasswordBearer";

/** By its page, which also knows who is signed in already. */
const FLOW = "authorizationCode";

/** @typedef {{getIn: (path: string[]) => unknown}} Definition */
/** @typedef {{filter: (keep: (definition: Definition) => boolean) => Definitions}} Definitions */
/** @typedef {(...parameters: unknown[]) => Definitions | undefined} Selector */

/**
 * Leave one way to sign in. The dialog would show others too, and accept any password for one of
 * them: services authenticate at /introspect, in its form.
 */
function OneWayToSignIn() {
  const definitionsToAuthorize =
    (/** @type {Selector} */ original) =>
    (/** @type {unknown[]} */ ...parameters) =>
      original(...parameters)?.filter((definition) => definition.getIn([SIGN_IN, "flow"]) === FLOW);
  return { statePlugins: { auth: { wrapSelectors: { definitionsToAuthorize } } } };
}

// @ts-expect-error: the bundle has no types.
const page = SwaggerUIBundle({
  url: "openapi.json",
  oauth2RedirectUrl: new URL("docs/signed-in", location.href).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  showExtensions: true,
  plugins: [OneWayToSignIn],
});
page.initOAuth({ clientId: "scopegate-docs", usePkceWithAuthorizationCodeGrant: true });
