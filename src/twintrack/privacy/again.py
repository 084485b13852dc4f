"""After a restore: who was erased behind the backup is in it, and is erased again.

A tombstone has no name, only a keyed hash; so every identifier that the restored folder holds is hashed and looked for.
Vendors have been told once, and are not told again.
"""

from collections.abc import Iterable, Iterator

from twintrack.control.control import Control
from twintrack.control.erasures import Erasures, State, Subject
from twintrack.control.tombstones import ANONYMOUS, USER, Tombstone, read, subject_hash
from twintrack.errors import TwintrackError
from twintrack.privacy.held import tables
from twintrack.spool.erase import HELD, told
from twintrack.spool.protocol import Kind, WholeSpool
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

_TOLD = {
    name: {"status": "told before", "why": "with the request that a restore has undone"} for name in ("statsig", "gtm")
}


def erase_again(control: Control, spool: WholeSpool, store: Store, since_milliseconds: int) -> Iterator[None]:
    """Asks for the erasure of everybody whose tombstone is newer, then waits until they are gone.

    The loader does it; whoever calls comes back meanwhile. Raises: StoreError; TwintrackError where one fails.
    """
    erasures = Erasures(control.engine)
    with control.engine.connect() as db:
        newer = [mark for mark in read(db) if mark.requested_at >= since_milliseconds]
    made = []
    for project in sorted({mark.project for mark in newer}):
        secret = control.project(project).secret
        for (at, hash), subject in _found(store, spool, project, secret, newer).items():
            made.append(erasures.create(project, subject, hash, (), at, _TOLD).id)
    for request_id in made:
        while (state := erasures.get(request_id).state) is not State.DONE:
            if state is State.FAILED:
                raise TwintrackError("a person who was erased could not be erased again", hint="see the log")
            yield


def _found(
    store: Store, spool: WholeSpool, project: str, secret: bytes, marks: Iterable[Tombstone]
) -> dict[tuple[int, str], Subject]:
    """Whom the folder still holds, by the time of their request and one of its hashes."""
    wanted = {(mark.kind, mark.environment, mark.hash): mark.requested_at for mark in marks if mark.project == project}
    users: dict[int, set[str]] = {}
    anonymous: dict[int, set[tuple[str, str]]] = {}
    hashes: dict[int, str] = {}
    for environment, user_id, anonymous_id in _identifiers(store, spool, project):
        if user_id and (at := wanted.get((USER, "", hash := subject_hash(secret, user_id)))) is not None:
            users.setdefault(at, set()).add(user_id)
            hashes.setdefault(at, hash)
        if anonymous_id:
            hash = subject_hash(secret, anonymous_id)
            if (at := wanted.get((ANONYMOUS, environment, hash))) is not None:
                anonymous.setdefault(at, set()).add((environment, anonymous_id))
                hashes.setdefault(at, hash)
    return {
        (at, hash): Subject(
            USER if at in users else ANONYMOUS, "", sorted(users.get(at, ())), sorted(anonymous.get(at, ()))
        )
        for at, hash in hashes.items()
    }


def _identifiers(store: Store, spool: WholeSpool, project: str) -> Iterator[tuple[str, str, str]]:
    """(environment, user, anonymous id) of everything that is held, each pair about once for each table."""
    name = project.replace("\\", "\\\\").replace("'", "\\'")
    for table, columns in tables(store).items():
        if "project" in columns and {"user_id", "anonymous_id"} & set(columns):
            cells = [column if column in columns else "''" for column in ("environment", "user_id", "anonymous_id")]
            yield from (
                (environment, user_id, anonymous_id)
                for environment, user_id, anonymous_id in store.stream(
                    f"SELECT DISTINCT {', '.join(cells)} FROM {DATABASE}.{table} WHERE project = '{name}'"
                )
            )
    for _, kind, row in spool.rows(*HELD):
        if kind is Kind.EVENTS:
            event = told(row)
            if event.project == project:
                yield event.environment, event.user_id, event.anonymous_id
