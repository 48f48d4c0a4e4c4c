// node oauth4webapi.mjs STORY ISSUER: what the story needs comes as JSON on standard input, what
// came of it goes as JSON to standard output.
import { json } from "node:stream/consumers";

import * as oauth from "oauth4webapi";

const insecure = { [oauth.allowInsecureRequests]: true }; // Plain http, on the loopback only.
const webApp = { client_id: "web-app" };
const publicClient = { client_id: "a-public-client" };

const authentications = {
  client_secret_basic: oauth.ClientSecretBasic,
  client_secret_post: oauth.ClientSecretPost,
};

async function discover(issuer) {
  const response = await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure });
  return oauth.processDiscoveryResponse(issuer, response);
}

async function logIn(server, { username, password }, scope) {
  const response = await oauth.genericTokenEndpointRequest(
    server,
    publicClient,
    oauth.None(),
    "password",
    { username, password, scope },
    insecure,
  );
  return oauth.processGenericTokenEndpointResponse(server, publicClient, response);
}

async function refresh(server, token, scope) {
  const response = await oauth.refreshTokenGrantRequest(server, publicClient, oauth.None(), token, {
    ...(scope && { additionalParameters: { scope } }),
    ...insecure,
  });
  return oauth.processRefreshTokenResponse(server, publicClient, response);
}

async function getClientToken(server, { clientId, secret, method }) {
  const client = { client_id: clientId };
  const response = await oauth.clientCredentialsGrantRequest(
    server,
    client,
    authentications[method](secret),
    {},
    insecure,
  );
  return oauth.processClientCredentialsResponse(server, client, response);
}

async function introspect(server, { clientId, secret, method }, token) {
  const client = { client_id: clientId };
  const authentication = authentications[method](secret);
  const response = await oauth.introspectionRequest(
    server,
    client,
    authentication,
    token,
    insecure,
  );
  return oauth.processIntrospectionResponse(server, client, response);
}

async function revoke(server, token) {
  const response = await oauth.revocationRequest(
    server,
    publicClient,
    oauth.None(),
    token,
    insecure,
  );
  return oauth.processRevocationResponse(response);
}

async function call(token, method, url) {
  const headers = new Headers({ "content-type": "application/json" });
  const body = method === "POST" ? '{"title": "Lamp"}' : null;
  const response = await oauth.protectedResourceRequest(
    token,
    method,
    new URL(url),
    headers,
    body,
    insecure,
  );
  return response.json();
}

async function validate(server, token) {
  const request = new Request("https://api.example/", {
    headers: { authorization: `Bearer ${token}` },
  });
  return oauth.validateJwtAccessToken(server, request, server.issuer, {
    signingAlgorithms: ["ES256"],
    ...insecure,
  });
}

// What the library makes of a refusal: its own classes, with what it could read from the answer.
async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    if (error instanceof oauth.ResponseBodyError) {
      return { status: error.status, error: error.error };
    }
    if (error instanceof oauth.WWWAuthenticateChallengeError) {
      return { status: error.status, challenges: error.cause };
    }
    throw error;
  }
  return null;
}

const stories = {
  async discovery(server) {
    return server;
  },

  async clientCredentials(server, { service }) {
    const token = await getClientToken(server, service);
    return { token, claims: await validate(server, token.access_token) };
  },

  async refusedClient(server, { service }) {
    return { refusal: await refusal(getClientToken(server, service)) };
  },

  async refreshing(server, { person }) {
    const login = await logIn(server, person, "read:items write:items");
    const narrowed = await refresh(server, login.refresh_token, "read:items");
    const full = await refresh(server, narrowed.refresh_token);
    const tokens = [login, narrowed, full];
    const claims = await Promise.all(tokens.map((each) => validate(server, each.access_token)));
    return { tokens, claims };
  },

  async revocation(server, { person, service }) {
    const login = await logIn(server, person, "read:items");
    const issued = [login.access_token, login.refresh_token];
    const before = await Promise.all(issued.map((each) => introspect(server, service, each)));
    await revoke(server, login.refresh_token);
    await revoke(server, "no token at all");
    return {
      before,
      after: await Promise.all(issued.map((each) => introspect(server, service, each))),
      refreshed: await refusal(refresh(server, login.refresh_token)),
      called: await refusal(call(login.access_token, "GET", `${server.issuer}/users/me`)),
    };
  },

  // The person's browser goes to `url` between the two.
  async beginSignIn(server, { redirectUri, scope }) {
    const remembered = {
      verifier: oauth.generateRandomCodeVerifier(),
      state: oauth.generateRandomState(),
      nonce: oauth.generateRandomNonce(),
    };
    const url = new URL(server.authorization_endpoint);
    url.search = new URLSearchParams({
      response_type: "code",
      client_id: webApp.client_id,
      redirect_uri: redirectUri,
      scope,
      state: remembered.state,
      nonce: remembered.nonce,
      code_challenge: await oauth.calculatePKCECodeChallenge(remembered.verifier),
      code_challenge_method: "S256",
    });
    return { url: url.href, remembered };
  },

  async finishSignIn(server, { back, redirectUri, remembered: { verifier, state, nonce } }) {
    const answer = oauth.validateAuthResponse(server, webApp, new URL(back), state);
    const response = await oauth.authorizationCodeGrantRequest(
      server,
      webApp,
      oauth.None(),
      answer,
      redirectUri,
      verifier,
      insecure,
    );
    const tokens = await oauth.processAuthorizationCodeResponse(server, webApp, response, {
      expectedNonce: nonce,
      requireIdToken: true,
    });
    await oauth.validateApplicationLevelSignature(server, response, insecure);
    const claims = oauth.getValidatedIdTokenClaims(tokens);
    const asked = await oauth.userInfoRequest(server, webApp, tokens.access_token, insecure);
    const userinfo = await oauth.processUserInfoResponse(server, webApp, claims.sub, asked);
    return { claims, userinfo, scope: tokens.scope };
  },

  async calling(server, { person }) {
    const { access_token: token } = await logIn(server, person, "read:items");
    return {
      me: await call(token, "GET", `${server.issuer}/users/me`),
      writing: await refusal(call(token, "POST", `${server.issuer}/items`)),
    };
  },
};

const [story, issuer] = process.argv.slice(2);
const server = await discover(new URL(issuer));
console.log(JSON.stringify(await stories[story](server, await json(process.stdin))));
