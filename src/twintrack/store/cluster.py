"""The same tables on a cluster, as SQL for an operator: rendered from the migrations and parsed by the engine in tests,
**not run on a cluster**.

Each table becomes `NAME_local`, replicated on every shard, and a Distributed table under its own name, which is what
the service reads and inserts into. Events are spread by chunk: a retry of a chunk meets the shard that may have it, as
one block under one token, and every view feeds the rollup beside it. Receipts are spread by event id, since only within
a shard do they replace each other. Pure.
"""

import re

from twintrack.store.migrate import LEDGER, known
from twintrack.store.schema import DATABASE

NOTE = (
    "-- Not run on a cluster: rendered from the migrations and parsed, no more. Try it on a staging cluster first.",
    "-- Each server needs the macros {shard} and {replica}. docs/operations/topology.md says what a cluster cannot do.",
)
# A retry may come as late as the spool keeps events: a week of tokens, as many as a single server keeps and more.
_WINDOW = "replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800"
_KEYS = {"events": ", cityHash64(chunk_id)", "receipts": ", cityHash64(event_id)"}
_TABLE = re.compile(rf"CREATE TABLE IF NOT EXISTS {DATABASE}\.(\w+)")
_ALTERED = re.compile(rf"ALTER TABLE {DATABASE}\.(\w+)")
_VIEW = re.compile(rf"CREATE (?:MATERIALIZED )?VIEW IF NOT EXISTS {DATABASE}\.\w+")
# How often old parts are looked for. A replica looks into Keeper each time, so on a cluster the engine's own pace holds.
_CLEANER = re.compile(r"\s*\w*cleanup_delay_period\w* = \d+,?")
_ENGINE = re.compile(r"ENGINE = (\w*MergeTree)(?:\(([^)]*)\))?")


def render(cluster: str) -> list[str]:
    """Every statement that makes the tables of this version on a cluster.

    Raises: ValueError for a cluster's name that is none.
    """
    if not re.fullmatch(r"[A-Za-z_][\w-]*", cluster):
        raise ValueError("a cluster's name has letters, digits, _ and -, and does not start with a digit")
    on = f" ON CLUSTER '{cluster}'"
    made = [LEDGER[0] + on, _ledger(on)]
    for migration in known():
        for statement in migration.statements:
            made += _statement(_without_comments(statement), cluster, on)
        made.append(
            f"INSERT INTO {DATABASE}.migrations (name, checksum) VALUES ('{migration.name}', '{migration.checksum}')"
        )
    return made


def _ledger(on: str) -> str:
    """One copy of the ledger on every server: whichever the service meets, it knows what was applied."""
    table = LEDGER[1].replace(f"{DATABASE}.migrations", f"{DATABASE}.migrations{on}")
    path = f"'/clickhouse/tables/{DATABASE}/migrations', '{{shard}}-{{replica}}'"
    return table.replace("ENGINE = MergeTree", f"ENGINE = ReplicatedMergeTree({path})")


def _statement(statement: str, cluster: str, on: str) -> list[str]:
    altered = _ALTERED.match(statement)
    if altered is not None:
        name, body = altered.group(1), _CLEANER.sub("", statement[altered.end() :])
        if body.strip() == "MODIFY SETTING":
            return []
        # What is no column means nothing to a Distributed table.
        tables = (f"{name}_local", name) if body.lstrip().startswith("ADD COLUMN") else (f"{name}_local",)
        return [f"ALTER TABLE {DATABASE}.{each}{on}{body}" for each in tables]
    table = _TABLE.match(statement)
    if table is None:
        view = _VIEW.match(statement)
        if view is None:
            raise ValueError("a migration holds a statement that has no form for a cluster")
        head, body = view.group(0) + on, statement[view.end() :]
        if "MATERIALIZED" in head:
            body = re.sub(rf" TO {DATABASE}\.(\w+)", rf" TO {DATABASE}.\1_local", body)
            body = re.sub(rf"FROM {DATABASE}\.(\w+)", rf"FROM {DATABASE}.\1_local", body)
        return [head + body]
    if "ENGINE = Memory" in statement:  # names people for a moment, on every server
        return [table.group(0) + on + statement[table.end() :]]
    name = table.group(1)
    local = f"{DATABASE}.{name}_local"

    def replicated(engine: "re.Match[str]") -> str:
        path = f"'/clickhouse/tables/{{shard}}/{DATABASE}/{name}', '{{replica}}'"
        more = f", {engine.group(2)}" if engine.group(2) else ""
        return f"ENGINE = Replicated{engine.group(1)}({path}{more})"

    body = _ENGINE.sub(replicated, statement[table.end() :], count=1)
    body = _CLEANER.sub("", re.sub(r"non_replicated_deduplication_window = \d+", _WINDOW, body))
    return [
        f"CREATE TABLE IF NOT EXISTS {local}{on}{body}",
        f"CREATE TABLE IF NOT EXISTS {DATABASE}.{name}{on} AS {local}"
        f" ENGINE = Distributed('{cluster}', '{DATABASE}', '{name}_local'{_KEYS.get(name, '')})",
    ]


def _without_comments(statement: str) -> str:
    return "\n".join(line for line in statement.splitlines() if not line.lstrip().startswith("--")).strip()
