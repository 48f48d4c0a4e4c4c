"""Locks on tables that requests use, for migrations: requests go on while one waits for them."""

from collections.abc import Sequence

# A request writes its tables in any order, and what waits behind a lock that is asked for waits as
# long as the one who asks. So:
# - VACUUM, ANALYZE and others that work on a table for long are waited for first, with a lock that
#   is in no request's way. Postgres ends an autovacuum that is waited for, after a second.
# - Then all locks that are needed come in one go, by a transaction that holds no other lock on such
#   tables. Waits that are shorter together than Postgres' deadlock timeout (1s) never make a
#   request the victim of a deadlock, and delay none for long.
_LOCK = """
DO $locks$
BEGIN
    SET LOCAL lock_timeout = '5s';
    BEGIN
        LOCK TABLE {tables} IN SHARE UPDATE EXCLUSIVE MODE;
    EXCEPTION WHEN lock_not_available THEN
        RAISE lock_not_available USING MESSAGE =
            '{tables}: VACUUM, CREATE INDEX or ALTER TABLE is at work, run it again after it';
    END;
    FOR attempt IN 1..25 LOOP
        BEGIN
            SET LOCAL lock_timeout = '{wait}ms';
            {locks}
            SET LOCAL lock_timeout = '5s';
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.1 * random());
        END;
    END LOOP;
    RAISE lock_not_available USING MESSAGE = '{tables}: in use, run it again';
END $locks$
"""

_WAITS = 900
"""Milliseconds, of all locks of an attempt together."""
_LONGEST_WAIT = 200
"""Milliseconds, for one of them."""


def lock_tables(*, alone: Sequence[str] = (), against_writes: Sequence[str] = ()) -> str:
    """Return the statement that locks tables until the migration has ended.

    `alone` is for new columns and checks, and for what is dropped, indexes and triggers too; others
    can't even read these tables. `against_writes` is for new triggers, indexes and foreign keys,
    also for the tables that a foreign key refers to, and for ENABLE TRIGGER.
    """
    modes = {"ACCESS EXCLUSIVE": alone, "SHARE ROW EXCLUSIVE": against_writes}
    locks = [
        f"LOCK TABLE {', '.join(tables)} IN {mode} MODE;"
        for mode, tables in modes.items()
        if tables
    ]
    tables = [*alone, *against_writes]
    return _LOCK.format(
        tables=", ".join(tables),
        locks="\n            ".join(locks),
        wait=min(_LONGEST_WAIT, _WAITS // len(tables)),
    )
