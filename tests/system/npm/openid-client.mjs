// node openid-client.mjs STORY ISSUER: what the story needs comes as JSON on standard input, what
// came of it goes as JSON to standard output.
import { json } from "node:stream/consumers";

import * as client from "openid-client";

const authentications = {
  client_secret_basic: client.ClientSecretBasic,
  client_secret_post: client.ClientSecretPost,
};

function discover(issuer, algorithm, id, authentication) {
  const execute = [client.allowInsecureRequests]; // Plain http, on the loopback only.
  return client.discovery(new URL(issuer), id, undefined, authentication, { algorithm, execute });
}

// By "oauth2" at the well-known path of RFC 8414, by "oidc" at that of OpenID Connect.
function publicClient(issuer, algorithm) {
  return discover(issuer, algorithm, "a-public-client", client.None());
}

function confidentialClient(issuer, { clientId, secret, method }) {
  return discover(issuer, "oauth2", clientId, authentications[method](secret));
}

const stories = {
  async everything(issuer, { person, service }) {
    const open = await publicClient(issuer, "oauth2");
    const byOidc = await publicClient(issuer, "oidc");
    const closed = await confidentialClient(issuer, service);
    const asked = { ...person, scope: "read:items" };
    const login = await client.genericGrantRequest(byOidc, "password", asked);
    const refreshed = await client.refreshTokenGrant(open, login.refresh_token);
    const token = refreshed.access_token;
    const before = await client.tokenIntrospection(closed, token);
    const url = new URL(`${issuer}/users/me`);
    const me = await client.fetchProtectedResource(open, token, url, "GET");
    await client.tokenRevocation(open, refreshed.refresh_token);
    return {
      found: { oauth2: open.serverMetadata().issuer, oidc: byOidc.serverMetadata().issuer },
      login,
      refreshed,
      service: await client.clientCredentialsGrant(closed),
      before,
      me: await me.json(),
      after: await client.tokenIntrospection(closed, token),
    };
  },

  // The person's browser goes to `url` between the two.
  async beginSignIn(issuer, { redirectUri, scope }) {
    const config = await discover(issuer, "oidc", "web-app", client.None());
    const remembered = {
      pkceCodeVerifier: client.randomPKCECodeVerifier(),
      expectedState: client.randomState(),
      expectedNonce: client.randomNonce(),
    };
    const url = client.buildAuthorizationUrl(config, {
      redirect_uri: redirectUri,
      scope,
      state: remembered.expectedState,
      nonce: remembered.expectedNonce,
      code_challenge: await client.calculatePKCECodeChallenge(remembered.pkceCodeVerifier),
      code_challenge_method: "S256",
    });
    return { url: url.href, remembered };
  },

  async finishSignIn(issuer, { back, remembered, after }) {
    const config = await discover(issuer, "oidc", "web-app", client.None());
    const checks = { ...remembered, idTokenExpected: true, maxAge: 3600 };
    const tokens = await client.authorizationCodeGrant(config, new URL(back), checks);
    const claims = tokens.claims();
    const userinfo = await client.fetchUserInfo(config, tokens.access_token, claims.sub);
    const logout = client.buildEndSessionUrl(config, {
      id_token_hint: tokens.id_token,
      post_logout_redirect_uri: after,
      state: "done",
    });
    return { claims, userinfo, logout: logout.href, scope: tokens.scope };
  },

  async refusal(issuer, { service }) {
    const closed = await confidentialClient(issuer, service);
    try {
      await client.clientCredentialsGrant(closed);
    } catch (error) {
      if (error instanceof client.WWWAuthenticateChallengeError) {
        return { status: error.status, schemes: error.cause.map((each) => each.scheme) };
      }
      throw error;
    }
    return null;
  },
};

const [story, issuer] = process.argv.slice(2);
console.log(JSON.stringify(await stories[story](issuer, await json(process.stdin))));
