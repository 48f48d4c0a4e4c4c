"""The errors that the domain raises. None of them knows HTTP's machinery, only its status.

An error's text is for the caller: it says what was wrong and what to do, and never repeats
what the caller sent.
"""

from typing import ClassVar, TypeVar


class ScopegateError(Exception):
    """The base of every error of ours; its text may be shown to the client that caused it."""

    reason: str | None = None
    """What the audit log says of it, where that may tell more than the text."""
    audited: bool = False
    """Whether an audit entry of this refusal is written, or will be with the writes it keeps."""


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
    keeps_writes: ClassVar[bool] = False
    """True: what the unit of work has written so far is committed although this was raised."""


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
    retry_after = 1
    """Seconds."""


class BearerError(ScopegateError):
    """A protected request that was refused; answered with RFC 6750's challenge."""

    status: ClassVar[int]
    code: ClassVar[str | None]


class AuthenticationRequired(BearerError):
    """There were no credentials at all (RFC 6750 §3.1: then the challenge has no error code)."""

    status = 401
    code = None

    def __init__(self) -> None:
        super().__init__("Not authenticated: send a bearer token.")


class InvalidToken(BearerError):
    """Malformed, forged, expired or revoked: one answer for all, so that none can be probed."""

    status = 401
    code = "invalid_token"

    def __init__(self) -> None:
        super().__init__("The access token is invalid, expired or revoked.")


class InsufficientScope(BearerError):
    """The token is good, but some scope that the route needs is not in force."""

    status = 403
    code = "insufficient_scope"

    def __init__(self, required: tuple[str, ...]) -> None:
        self.required = required
        super().__init__(f"This needs the scope: {' '.join(required)}.")


class AmbiguousCredentials(BearerError):
    """More than one Authorization header (RFC 6750 §2: one method, once)."""

    status = 400
    code = "invalid_request"

    def __init__(self) -> None:
        super().__init__("Send one Authorization header, not several.")


def first_line(error: Exception) -> str:
    """What the error says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


class OAuthError(DomainError):
    """An error of the token endpoint, RFC 6749 §5.2. Its text is the `error_description`."""

    code: ClassVar[str]


class InvalidRequest(OAuthError):
    """A parameter is missing, repeated or malformed."""

    code = "invalid_request"


class InvalidClient(OAuthError):
    """Client authentication failed."""

    code = "invalid_client"
    status = 401


class InvalidGrant(OAuthError):
    """The credentials presented are not good, whatever the reason."""

    code = "invalid_grant"


class InvalidScope(OAuthError):
    """The scope asked for is malformed, or none of it can be given."""

    code = "invalid_scope"


class UnsupportedGrantType(OAuthError):
    """This service does not offer that grant."""

    code = "unsupported_grant_type"
