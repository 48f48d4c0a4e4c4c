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
