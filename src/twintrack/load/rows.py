"""The rows of a chunk as one insert: each line gets its chunk in front. No row is decoded."""

from uuid import UUID

from twintrack.store.schema import COLUMNS


def insert_block(chunk_id: str, content: bytes) -> bytes:
    """JSONCompactEachRow lines in the order of `columns(kind)`.

    Shape: a row arrives as `[...]` without the chunk and leaves as `["chunk",...]`. A line break inside a string is
    escaped in JSON, so one before a bracket always starts a row.
    """
    head = b'["%s",' % str(UUID(chunk_id)).encode()
    return head + content[1:].replace(b"\n[", b"\n" + head)


def columns(kind: str) -> tuple[str, ...]:
    return COLUMNS[kind]
