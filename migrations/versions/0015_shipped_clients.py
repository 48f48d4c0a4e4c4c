"""the clients that ship with the service: the console and /docs"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# What is below the issuer begins with "/": the service knows its address, the database does not.
CREATE = """
INSERT INTO clients (
    id, client_id, name, redirect_uris, post_logout_redirect_uris, scopes, trusted,
    id_token_signed_response_alg
) VALUES (
    '01988f00-0000-7000-8000-000000000001', 'scopegate-console', 'Scopegate console',
    '{/console}', '{/console?signed-out}', '{admin,openid}', true, 'RS256'
), (
    '01988f00-0000-7000-8000-000000000002', 'scopegate-docs', 'Scopegate API documentation',
    '{/docs/signed-in}', '{}', '{admin}', true, 'RS256'
)
"""
# A service account with such an id could not be told from the client in a token.
REFUSE_TAKEN = """
DO $$
DECLARE
    taken text;
BEGIN
    SELECT string_agg(name, ', ') INTO taken FROM (
        SELECT client_id FROM clients WHERE deleted_at IS NULL
        UNION SELECT username FROM users WHERE kind = 'service'
    ) AS ids (name)
    WHERE lower(name COLLATE "C") IN ('scopegate-console', 'scopegate-docs');
    IF taken IS NOT NULL THEN
        RAISE EXCEPTION USING MESSAGE = 'the console and /docs are clients now, and others have '
            'their ids: ' || taken || '. Rename that service account, or delete that client and '
            'register it with another id, then migrate again';
    END IF;
END $$
"""
# By their own ids: clients that were deleted may have had the same names.
DELETE = [
    "CREATE TEMPORARY TABLE ours ON COMMIT DROP AS SELECT id FROM clients WHERE id IN ("
    "'01988f00-0000-7000-8000-000000000001', '01988f00-0000-7000-8000-000000000002')",
    "DELETE FROM sessions USING consents, ours "
    "WHERE consent_id = consents.id AND registration_id = ours.id",
    "DELETE FROM authorization_codes USING ours WHERE registration_id = ours.id",
    "DELETE FROM consents USING ours WHERE registration_id = ours.id",
    "DELETE FROM clients USING ours WHERE clients.id = ours.id",
]


def upgrade() -> None:
    op.execute(REFUSE_TAKEN)
    op.execute(CREATE)


def downgrade() -> None:
    for statement in DELETE:
        op.execute(statement)
