// node jose.mjs ISSUER: access tokens come as a JSON list on standard input; each one's verified
// header and claims go as JSON to standard output.
import { json } from "node:stream/consumers";

import { createRemoteJWKSet, jwtVerify } from "jose";

const [issuer] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`));
const expected = { issuer, audience: issuer, typ: "at+jwt", algorithms: ["ES256"] };

const verified = [];
for (const token of await json(process.stdin)) {
  const { protectedHeader, payload } = await jwtVerify(token, keys, expected);
  verified.push({ header: protectedHeader, claims: payload });
}
console.log(JSON.stringify(verified));
