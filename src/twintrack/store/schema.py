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

# The columns of the readable tables. A bare name in foreign SQL that is neither here nor defined there is refused.
READABLE_COLUMNS: dict[str, tuple[str, ...]] = {
    "events": (
        *EVENT_COLUMNS, "date", "loaded_at", "schema_version", "expires_at", "message_expires_at",
    ),
    "receipts": RECEIPT_COLUMNS,
    "identities": ("project", "environment", "anonymous_id", "user_id", "first_linked_at", "links"),
    "daily_user_events": (
        "project", "environment", "date", "user_id", "event_name", "event_count", "session_count",
    ),
    "events_hourly": ("project", "environment", "hour", "event_name", "event_count", "persons", "sessions"),
    "events_daily": ("project", "environment", "date", "user_id", "event_name", "session_id", "event_count"),
}  # fmt: skip

# Parameters that each question of somebody with hidden columns carries: two fresh numbers.
SALT = ("twintrack_salt_0", "twintrack_salt_1")
_SALT = f"(toUInt64({{{SALT[0]}:UInt64}}), toUInt64({{{SALT[1]}:UInt64}}))"
_NAME = f"concat('claimed-', lower(substring(hex(sipHash128Keyed({_SALT}, user_id)), 1, 16)))"
_ANY_USER = {"user_id": f"if(user_id = '', '', {_NAME})"}

# What is hidden from those who lack a permission: table to column to the expression in its place; "" for nothing at
# all. A user id that nobody verified becomes a name that holds within one answer, so that people can still be counted
# and joined; a table that does not say who was verified shows no id as it is, and states of ids, which are hashes
# that a guess can be tried on, are not shown.
HIDDEN: dict[str, dict[str, dict[str, str]]] = {
    "text": {
        "events": {"message_content": "if(message_content IS NULL, NULL, '[MESSAGE]')", "ip_address": "toIPv6('::')"},
    },
    "claims": {
        "events": {"user_id": f"if(identity = 'claimed', {_NAME}, user_id)"},
        "identities": _ANY_USER,
        "daily_user_events": _ANY_USER,
        "events_daily": _ANY_USER,
        "events_hourly": {"persons": ""},
    },
}
