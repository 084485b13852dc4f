"""The least that the two users of a server need, as SQL for its administrator. Pure.

`twintrack` loads and reads; `twintrack_migrate` makes tables and is used by `twintrack migrate` alone. Parsed by the
engine in tests; the embedded engine has no users, so they are not enforced there.
"""

from twintrack.store.schema import DATABASE

SERVICE, MIGRATOR = "twintrack", "twintrack_migrate"


def grants(cluster: str = "") -> list[str]:
    """Statements that give both users what they need, and nothing of other databases."""
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    made = [
        # Insert, ask, remove the rows of a chunk that is half there or of what has expired (ALTER DELETE), write
        # deadlines and take out texts that are past theirs (ALTER UPDATE).
        f"GRANT{on} SELECT, INSERT, ALTER DELETE, ALTER UPDATE ON {DATABASE}.* TO {SERVICE}",
        # An erasure has old parts removed soon, and says whom it is about in a table of its own.
        f"GRANT{on} ALTER SETTINGS ON {DATABASE}.* TO {SERVICE}",
        f"GRANT{on} TRUNCATE ON {DATABASE}.erasing TO {SERVICE}",
        # An insert reads its rows by `input(...)`, which a server counts among temporary tables.
        f"GRANT{on} CREATE TEMPORARY TABLE ON *.* TO {SERVICE}",
        # `rollup rebuild` makes a month in a table beside and puts it in place.
        f"GRANT{on} CREATE TABLE, DROP TABLE ON {DATABASE}.* TO {SERVICE}",
        # These say which tables, columns and months there are, and whether rows are still being removed.
        *(
            f"GRANT{on} SELECT ON system.{table} TO {SERVICE}"
            for table in ("tables", "columns", "parts", "detached_parts", "mutations")
        ),
        f"GRANT{on} CREATE DATABASE, CREATE TABLE, CREATE VIEW, ALTER TABLE, SELECT, INSERT ON {DATABASE}.*"
        f" TO {MIGRATOR}",
        f"GRANT{on} SELECT ON system.tables TO {MIGRATOR}",
    ]
    if cluster:
        made.append(f"GRANT{on} CLUSTER, REMOTE ON *.* TO {MIGRATOR}")
    return made
