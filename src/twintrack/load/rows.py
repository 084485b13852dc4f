"""The rows of a chunk as one insert: each line gets its chunk in front. No row is decoded."""

from uuid import UUID

from twintrack.store.schema import COLUMNS

_PIECE_BYTES = 1 << 16


def insert_block(chunk_id: str, content: bytes) -> bytes:
    """JSONCompactEachRow lines in the order of `columns(kind)`.

    Shape: a row arrives as `[...]` without the chunk and leaves as `["chunk",...]`. A line break inside a string is
    escaped in JSON, so one before a bracket always starts a row.
    """
    head = b'["%s",' % str(UUID(chunk_id)).encode()
    parts, start = [head], 1
    while start < len(content):
        # In pieces: the door cannot use the interpreter while one of them is copied.
        end = content.find(b"\n", start + _PIECE_BYTES)
        end = len(content) if end < 0 else end
        parts.append(content[start:end].replace(b"\n[", b"\n" + head))
        start = end
    return b"".join(parts)


def columns(kind: str) -> tuple[str, ...]:
    return COLUMNS[kind]
