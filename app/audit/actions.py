"""The kinds of entries in the audit log."""

from typing import Literal

Action = Literal[
    "login.succeeded",
    "login.failed",
    "login.throttled",
    "session.ended",
    "session.reuse_detected",
    "session.grace_used",
    "user.created",
    "user.changed",
    "user.disabled",
    "user.enabled",
    "password.changed",
    "grant.made",
    "grant.revoked",
    "scope.registered",
    "scope.removed",
    "key.rotated",
    "secret.made",
    "secret.revoked",
    "database.recovered",
    "client.created",
    "client.changed",
    "client.deleted",
    "consent.given",
    "consent.withdrawn",
    "code.replayed",
    "account.signed_up",
    "email.verified",
    "email.changed",
    "password.reset_requested",
    "password.reset",
    "invitation.made",
    "invitation.accepted",
    "account.erased",
    "account.exported",
    "audit.names_removed",
    "token.made",
    "token.revoked",
]

WARNINGS: frozenset[Action] = frozenset(
    {
        "login.failed",
        "login.throttled",
        "session.reuse_detected",
        "session.grace_used",
        "code.replayed",
    }
)
"""What may be an attack."""
