"""The tables as data: which columns a question may name, which hold text of people, which are the insert's.

The SQL itself stands in `migrations/*.sql`; a test compares both with the running engine.
"""

from twintrack.event import ReceiptRow, Row

DATABASE = "analytics"
EVENT_COLUMNS: tuple[str, ...] = ("chunk_id", *Row.__struct_fields__)
RECEIPT_COLUMNS: tuple[str, ...] = ("chunk_id", *ReceiptRow.__struct_fields__)
COLUMNS = {"events": EVENT_COLUMNS, "receipts": RECEIPT_COLUMNS}

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
