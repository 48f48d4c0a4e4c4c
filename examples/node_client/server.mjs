// A service with one route, GET /orders, for tokens that hold read:orders.

import { createServer } from "node:http";
import { env } from "node:process";
import { InvalidToken, Scopegate } from "./scopegate.mjs";

const { SCOPEGATE_ISSUER, SCOPEGATE_CLIENT_ID, SCOPEGATE_CLIENT_SECRET, PORT = "8001" } = env;
const scopegate = new Scopegate({
  issuer: SCOPEGATE_ISSUER,
  clientId: SCOPEGATE_CLIENT_ID,
  clientSecret: SCOPEGATE_CLIENT_SECRET,
});

async function answer(request) {
  const { fresh, introspections, events } = scopegate;
  if (request.url === "/state") return [200, {}, { fresh, introspections, events }];
  const [, token] = /^bearer +(\S+)$/i.exec(request.headers.authorization ?? "") ?? [];
  if (!token) return [401, { "WWW-Authenticate": "Bearer" }];
  try {
    const { sub, scope } = await scopegate.check(token);
    if (scope.split(" ").includes("read:orders")) return [200, {}, [`An order of ${sub}`]];
    const challenge = 'Bearer error="insufficient_scope", scope="read:orders"';
    return [403, { "WWW-Authenticate": challenge }];
  } catch (error) {
    if (!(error instanceof InvalidToken)) return [503, { "Retry-After": "1" }];
    return [401, { "WWW-Authenticate": 'Bearer error="invalid_token"' }];
  }
}

createServer(async (request, response) => {
  const [status, headers, body] = await answer(request);
  response.writeHead(status, { ...headers, "Content-Type": "application/json" });
  response.end(JSON.stringify(body ?? {}));
}).listen(Number(PORT), "127.0.0.1", function listening() {
  console.log(`listening on ${this.address().port}`);
});
scopegate.follow();
