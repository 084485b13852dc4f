"""The rows of a chunk as one insert: each line gets its chunk in front. No row is decoded."""

from uuid import UUID

from twintrack.store.schema import COLUMNS


def insert_block(chunk_id: str, rows: list[bytes]) -> bytes:
    """JSONCompactEachRow lines in the order of `columns(kind)`.

    Shape: a row arrives as `[...]` without the chunk and leaves as `["chunk",...]`.
    """
    head = b'["%s",' % str(UUID(chunk_id)).encode()
    return b"\n".join([head + row[1:] for row in rows])


def columns(kind: str) -> tuple[str, ...]:
    return COLUMNS[kind]
