"""The tables of a topic's verdicts, in the control data that all of its nodes share."""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

LEDGER_LENGTH = 16

metadata = MetaData()
topics = Table(
    "spool_topics",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("ledger", String(LEDGER_LENGTH), nullable=False),
    Column("partitions", Integer, nullable=False),
)
heads = Table(
    "spool_heads",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),  # everything before it is decided
    Column("suspect", Integer, nullable=False, default=0),  # its open chunks must be compared with the store
)
chunks = Table(
    "spool_chunks",
    metadata,
    Column("chunk_id", String(36), primary_key=True),
    Column("topic", String(249), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("end_offset", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),  # among the chunks of its range
    Column("kind", String(20), nullable=False),
    Column("month", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("kept", LargeBinary, nullable=False),  # a byte for each row of the range, 1 where it is kept; deflated
    Column("token", String(80), nullable=False),  # ends in the hash of the rows
    Column("lookup", Integer, nullable=False),
    Column("import_id", String(64), nullable=False),
    Column("received_milliseconds", BigInteger, nullable=False),
    Column("places", Text, nullable=False),
    Column("state", String(20), nullable=False),  # open, loaded, quarantined, damaged
    Column("reason", String(100), nullable=False, default=""),
    Column("content", LargeBinary),  # of a row that is or was in quarantine: the topic forgets it
    Column("settled_milliseconds", BigInteger),
    Index("spool_chunks_by_state", "topic", "state", "partition"),
)
tallies = Table(
    "spool_tallies",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("project", String(100), primary_key=True),
    Column("environment", String(100), primary_key=True),
    Column("outcome", String(40), primary_key=True),
    Column("reason", String(60), primary_key=True),
    Column("events", BigInteger, nullable=False),
)
imports = Table(
    "spool_imports",
    metadata,
    Column("import_id", String(64), primary_key=True),
    Column("found", BigInteger, nullable=False),
    Column("loaded", BigInteger, nullable=False),
)
refused = Table(
    "spool_refused",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("event_id", String(64), nullable=False, index=True),
    Column("project", String(100), nullable=False),
    Column("status", String(20), nullable=False),
    Column("reason", String(60), nullable=False),
    Column("received_milliseconds", BigInteger, nullable=False, index=True),
)
stale_months = Table(
    "spool_stale_months",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("month", Integer, primary_key=True),  # whose rollups must be made again from raw
)

# -- what goes out again -------------------------------------------------------------------------------------------

housework = Table(
    "spool_housework",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("holder", String(32), nullable=False),  # the loader that erases, expires and makes rollups; empty: nobody
    Column("beat", BigInteger, nullable=False),  # moves while the holder lives
    Column("quiet", Integer, nullable=False),  # no other loader begins anything
    Column("seen_milliseconds", BigInteger, nullable=False),
)
erasures = Table(
    "spool_erasures",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("request", String(32), primary_key=True),
    Column("project", String(100), primary_key=True),
    Column("environment", String(100), primary_key=True),
    Column("events", BigInteger, nullable=False),  # that the store will lose
)
erased = Table(
    "spool_erased",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("project", String(100), primary_key=True),
    Column("event_id", LargeBinary(16), primary_key=True),  # taken out before the store had it
)
erased_links = Table(
    "spool_erased_links",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("topic", String(249), nullable=False),
    Column("project", String(100), nullable=False),
    Column("environment", String(100), nullable=False),
    Column("anonymous_id", LargeBinary, nullable=False),  # UTF-8
    Column("user_id", LargeBinary, nullable=False),
    Column("at", Float(53), nullable=False),  # seconds
)
complete = Table(
    "spool_complete",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("project", String(100), primary_key=True),
    Column("since_milliseconds", BigInteger, nullable=False),  # from when on raw has every event
)
policies = Table(
    "spool_policies",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("version", BigInteger, nullable=False),  # whose deadlines the rows carry
)
rewrites = Table(
    "spool_rewrites",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("month", Integer, primary_key=True),  # whose rows carry the deadlines of earlier rules
)
removals = Table(
    "spool_removals",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("month", Integer, primary_key=True),  # whose expired rows are counted as gone
    Column("until_seconds", BigInteger, nullable=False),
)
