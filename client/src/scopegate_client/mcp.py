"""The `mcp` SDK: a verifier for its servers, and their answer while tokens can't be checked."""

from mcp.server.auth.provider import AccessToken, TokenVerifier
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from scopegate_client.client import Scopegate
from scopegate_client.principals import InvalidToken, Unavailable


class ScopegateTokenVerifier(TokenVerifier):
    """Checks the tokens of an MCP server's callers. `scopegate.lifespan()` must be running."""

    def __init__(self, scopegate: Scopegate) -> None:
        self._scopegate = scopegate

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what the token stands for now; None, which the SDK answers by 401, if it is bad.

        Raises Unavailable when Scopegate must be asked and does not answer.
        """
        try:
            principal = await self._scopegate.check(token)
        except InvalidToken:
            return None
        # No `expires_at`: the SDK would compare it with the clock of this machine. The database's
        # clock has judged it.
        return AccessToken(
            token=token,
            client_id=principal.client_id,
            scopes=sorted(principal.scopes),
            resource=self._scopegate.audience,
            subject=principal.subject,
            claims=dict(principal.claims),
        )


class AnswerUnavailable:
    """Middleware: 503 with `Retry-After` where a token could not be checked, instead of 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request as the app does, or by 503."""
        try:
            await self._app(scope, receive, send)
        except Unavailable:
            body, headers = {"error": "temporarily_unavailable"}, {"Retry-After": "1"}
            await JSONResponse(body, 503, headers)(scope, receive, send)
