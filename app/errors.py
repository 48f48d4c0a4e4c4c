"""The errors that the domain raises. Each knows what HTTP says of it: status, code and headers.

An error's text is for the caller: it says what was wrong and what to do, and never repeats
what the caller sent.
"""

from typing import ClassVar, TypeVar

REALM = "scopegate"


class ScopegateError(Exception):
    """The base of every error of ours; its text may be shown to the client that caused it.

    `reason`: what the audit log says of it, where that may tell more than the text.
    """

    text: ClassVar[str] = ""
    """What it says, unless it is raised with a text of its own."""
    audited: bool = False
    """Whether an audit entry of this refusal is written, or will be with the writes it keeps."""

    def __init__(self, text: str | None = None, *, reason: str | None = None) -> None:
        super().__init__(text or self.text)
        self.reason = reason


E = TypeVar("E", bound=ScopegateError)


def audited(error: E) -> E:
    """Return the error, marked as one that has its audit entry."""
    error.audited = True
    return error


class ConfigurationError(ScopegateError):
    """The service can't start as it is set up. Shown to the operator as one line."""


class DomainError(ScopegateError):
    """A request that can't be done, with the HTTP status that says why."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "invalid_request"
    """What OAuth's endpoints call it (RFC 6749 §5.2)."""
    keeps_writes: ClassVar[bool] = False
    """True: what the unit of work has written so far is committed although this was raised."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an answer that tells of it."""
        return {}


class Refused(DomainError):
    """The input is well-formed, but its content is not acceptable."""

    status = 422


class NotFound(DomainError):
    """There is no such thing, or none that the caller may see."""

    status = 404


class Conflict(DomainError):
    """The request contradicts the present state."""

    status = 409


class Unavailable(DomainError):
    """The service can't answer just now; the same request may succeed in a moment."""

    status = 503
    code = "temporarily_unavailable"
    retry_after = 1
    """Seconds."""

    @property
    def headers(self) -> dict[str, str]:
        """When to come again (RFC 9110 §10.2.3)."""
        return {"Retry-After": str(self.retry_after)}


class BearerError(DomainError):
    """A protected request that was refused; answered with RFC 6750's challenge."""

    status = 401
    code = "invalid_token"

    @property
    def headers(self) -> dict[str, str]:
        """RFC 6750 §3: the challenge says what was wrong, and which scopes would do."""
        challenge = ", ".join([f'Bearer realm="{REALM}"', *self.challenge_parameters()])
        return {"WWW-Authenticate": challenge}

    def challenge_parameters(self) -> list[str]:
        """Return what the challenge says beside its realm."""
        return [f'error="{self.code}"', f'error_description="{self}"']


class AuthenticationRequired(BearerError):
    """There were no credentials at all."""

    text = "Not authenticated: send a bearer token."

    def challenge_parameters(self) -> list[str]:
        """Return nothing: then the challenge has no error code (RFC 6750 §3.1)."""
        return []


class InvalidToken(BearerError):
    """Malformed, forged, expired or revoked: one answer for all, so that none can be probed."""

    text = "The access token is invalid, expired or revoked."


class InsufficientScope(BearerError):
    """The token is good, but some scope that the route needs is not in force."""

    status = 403
    code = "insufficient_scope"

    def __init__(self, required: tuple[str, ...]) -> None:
        self.required = required
        super().__init__(f"This needs the scope: {' '.join(required)}.")

    def challenge_parameters(self) -> list[str]:
        """Return the scopes too that would do."""
        return [*super().challenge_parameters(), f'scope="{" ".join(self.required)}"']


class AmbiguousCredentials(BearerError):
    """More than one Authorization header (RFC 6750 §2: one method, once)."""

    status = 400
    code = "invalid_request"
    text = "Send one Authorization header, not several."


def first_line(error: Exception) -> str:
    """What the error says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


class OAuthError(DomainError):
    """An error of the token endpoint, RFC 6749 §5.2. Its text is the `error_description`."""


class InvalidRequest(OAuthError):
    """A parameter is missing, repeated or malformed."""


class InvalidClient(OAuthError):
    """Client authentication failed."""

    status = 401
    code = "invalid_client"

    @property
    def headers(self) -> dict[str, str]:
        """How a client authenticates (RFC 6749 §5.2)."""
        return {"WWW-Authenticate": f'Basic realm="{REALM}"'}


class InvalidGrant(OAuthError):
    """The credentials presented are not good, whatever the reason."""

    code = "invalid_grant"


class InvalidScope(OAuthError):
    """The scope asked for is malformed, or none of it can be given."""

    code = "invalid_scope"


class UnsupportedGrantType(OAuthError):
    """This service does not offer that grant."""

    code = "unsupported_grant_type"


class UnauthorizedClient(OAuthError):
    """This client may not use that grant."""

    code = "unauthorized_client"


class InvalidTarget(OAuthError):
    """There is no such resource (RFC 8707 §2)."""

    code = "invalid_target"
    text = "There is no such resource."
