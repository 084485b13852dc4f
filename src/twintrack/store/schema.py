"""The tables as data: which columns a question may name, which hold text of people, which are the insert's.

The SQL itself stands in `migrations/*.sql`; a test compares both with the running engine.
"""

from typing import Any
from uuid import UUID

import msgspec

from twintrack.event import ReceiptRow, Row

DATABASE = "analytics"
EVENT_COLUMNS: tuple[str, ...] = ("chunk_id", *Row.__struct_fields__)
RECEIPT_COLUMNS: tuple[str, ...] = ("chunk_id", *ReceiptRow.__struct_fields__)
COLUMNS = {"events": EVENT_COLUMNS, "receipts": RECEIPT_COLUMNS}

_ROWS: dict[str, type[msgspec.Struct]] = {"events": Row, "receipts": ReceiptRow}
_READ_AS: dict[Any, str] = {
    str: "String",
    str | None: "Nullable(String)",
    int: "UInt64",
    int | None: "Nullable(UInt64)",
    bool: "Bool",
    float: "DateTime64(3, 'UTC')",
    float | None: "Nullable(DateTime64(3, 'UTC'))",
    UUID: "UUID",
    dict[str, Any]: "JSON(max_dynamic_paths = 256)",
    list[str]: "Array(String)",
}


def read_as(table: str) -> str:
    """How the cells of a row are read before they become the table's columns: `name type, ...` without the chunk.

    Texts are read as texts and made LowCardinality a column at a time: read straight into such a column, each cell
    costs a hash table of its own, 0.14 us.
    """
    return ", ".join(f"{field.name} {_READ_AS[field.type]}" for field in msgspec.structs.fields(_ROWS[table]))


# What `POST /api/analytics/sql` may read. Each has project and environment, by which every question is scoped.
READABLE = (
    "events",
    "receipts",
    "identities",
    "daily_user_events",
    "events_hourly",
    "events_daily",
)

# Of these, the ones whose rows replace each other by their order key, at some time after the insert.
REPLACING = ("receipts",)

# What a `read` key does not see: text of people and their addresses. Column to the expression in its place.
HIDDEN_FROM_READ = {
    "events": {"message_content": "if(message_content IS NULL, NULL, '[MESSAGE]')", "ip_address": "toIPv6('::')"},
}
