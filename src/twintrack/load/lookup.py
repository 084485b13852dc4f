"""Which ids of a chunk the store has already: asked where no index can tell, in pieces that its parser bears."""

from uuid import UUID

from twintrack.spool.protocol import Chunk
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

_IDS = 20_000


def found(store: Store, chunk: Chunk, wanted: list[tuple[str, bytes]]) -> set[tuple[str, bytes]]:
    """The (project, event id) of `wanted` that are in the store.

    A copy may stand in any month (a client's clock may have been corrected in between), except for imported
    rows: their time is part of their id. Raises: StoreError.
    """
    projects = ", ".join(f"'{_escaped(project)}'" for project in sorted({project for project, _ in wanted}))
    month = f" AND toYYYYMM(date) = {chunk.month}" if chunk.import_id else ""
    there: set[tuple[str, bytes]] = set()
    for start in range(0, len(wanted), _IDS):
        ids = ",".join(f"'{UUID(bytes=i)}'" for _, i in wanted[start : start + _IDS])
        answer = store.select(
            f"SELECT project, event_id FROM {DATABASE}.events"
            f" WHERE project IN ({projects}){month} AND event_id IN ({ids})",
            settings={"max_query_size": _IDS * 64},
        )
        there.update((project, event_id.bytes) for project, event_id in answer.rows)
    return there & set(wanted)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
