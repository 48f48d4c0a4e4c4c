"""JWTs by RFC 9068, verified by the keys that Scopegate publishes. Who asks judges their expiry."""

import asyncio
import math
import re
import time

import httpx2
import jwt

from scopegate_client.principals import InvalidToken, Principal, Unavailable, parse

FETCH_INTERVAL = 5.0
"""Seconds between two fetches of the keys that unknown key ids, or failures, have caused."""
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,8192}=*")
"""What can be a bearer token (RFC 6750 §2.1). Proxies take no header that is longer."""
TYPES = {"at+jwt", "application/at+jwt"}


class Keys:
    """The issuer's public keys. They are kept when a fetch fails."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self._keys: dict[object, jwt.PyJWK] = {}
        self._tried_at, self._failed = -math.inf, False
        self._fetching = asyncio.Lock()
        self.fetched = -math.inf
        """When the keys that are held now were asked for."""

    async def find(self, kid: object, *, since: float) -> jwt.PyJWK:
        """Return the key of this id, fetched at `since` or later if Scopegate answers.

        Raises InvalidToken when there is none, Unavailable when Scopegate could not be asked.
        """
        async with self._fetching:
            now = time.monotonic()
            due = self._tried_at < since or now - self._tried_at >= FETCH_INTERVAL
            if due and (self.fetched < since or kid not in self._keys):
                await self._fetch(now)
        if kid not in self._keys:
            raise Unavailable("the keys can't be fetched") if self._failed else InvalidToken
        return self._keys[kid]

    async def _fetch(self, now: float) -> None:
        self._tried_at, self._failed = now, True
        try:
            # A cache on the way may still hold the keys from before a rotation.
            headers = {"Cache-Control": "no-cache"}
            answer = await self._http.get("/.well-known/jwks.json", headers=headers, auth=None)
            published = jwt.PyJWKSet.from_dict(answer.raise_for_status().json())
        except (httpx2.HTTPError, AttributeError, ValueError, jwt.PyJWTError):
            return
        self._keys = {key.key_id: key for key in published.keys}
        self.fetched, self._failed = now, False


def is_opaque(token: str) -> bool:
    """Return whether only Scopegate can read the token: no JWT, or signed by a shared secret."""
    if token.count(".") != 2:
        return True
    try:
        return str(jwt.get_unverified_header(token).get("alg")).startswith("HS")
    except jwt.PyJWTError:
        return False


async def verify(
    token: str, keys: Keys, *, issuer: str, audience: str, since: float = -math.inf
) -> Principal:
    """Return what a JWT says (RFC 9068 §4), verified by keys that were fetched at `since` or later.

    Raises InvalidToken, or Unavailable.
    """
    try:
        key = await keys.find(jwt.get_unverified_header(token).get("kid"), since=since)
        decoded = jwt.decode_complete(
            token,
            key,
            # The key says how it is used. The token is not asked.
            algorithms=[key.algorithm_name],
            issuer=issuer,
            audience=audience,
            # Times are the database's: the clock of this machine does not count.
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        if decoded["header"].get("typ") not in TYPES:
            raise InvalidToken
        return parse(decoded["payload"])
    except (jwt.PyJWTError, RecursionError, TypeError, ValueError):
        raise InvalidToken from None
