"""Every kind of question over a year of events, beside the same as plain SQL on the plan's own schema and in DuckDB.

`python -m benchmarks.questions --events 20000000 --people 200000 [--folder DIR]`: makes the year where the folder has none
(benchmarks/year.py), then asks each question of a service whose result cache is off: cold is the first time in a fresh
process, warm the third. The plan's schema and DuckDB get persons resolved already and are asked three times too, the
last one counts. Numbers that mean the same are compared; a difference ends the run.
"""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx

from benchmarks.service import Served
from benchmarks.year import PROJECT, fill
from twintrack.settings import load_settings
from twintrack.store.clickhouse import ClickHouse
from twintrack.store.embedded import open_store

MONTH = {"from": "2026-10-01", "to": "2026-10-30"}
YEAR = {"from": "2025-11-01", "to": "2026-10-31"}
_STEPS = ("view_item", "add_to_cart", "checkout")


class Question(NamedTuple):
    name: str
    kind: str
    body: dict[str, Any]
    goal_milliseconds: int
    number: Callable[[dict[str, Any]], int] | None  # of our answer, where the others' SQL gives the same one
    sql: str  # of the others: {events} is their table, {person} their person, {since} and {until} the range


def _total(answer: dict[str, Any]) -> int:
    return int(answer["series"][0]["total"])


_FUNNEL = (
    "WITH a AS (SELECT {person} AS who, event_timestamp AS t FROM {events} WHERE {range} AND event_name = 'view_item'),"
    " b AS (SELECT {person} AS who, event_timestamp AS t FROM {events} WHERE {range} AND event_name = 'add_to_cart'),"
    " c AS (SELECT {person} AS who, event_timestamp AS t FROM {events} WHERE {range} AND event_name = 'checkout'),"
    " one AS (SELECT who, min(t) AS t FROM a GROUP BY who),"
    " two AS (SELECT b.who AS who, min(one.t) AS began, min(b.t) AS t FROM b JOIN one ON b.who = one.who"
    "   WHERE b.t > one.t AND b.t <= one.t + INTERVAL 7 DAY GROUP BY b.who),"
    " three AS (SELECT c.who AS who FROM c JOIN two ON c.who = two.who"
    "   WHERE c.t > two.t AND c.t <= two.began + INTERVAL 7 DAY GROUP BY c.who)"
    " SELECT (SELECT count(*) FROM one), (SELECT count(*) FROM two), (SELECT count(*) FROM three)"
)
_RETENTION = (
    "WITH active AS (SELECT {person} AS who, {week} AS week FROM {events} WHERE {range} GROUP BY who, week),"
    " began AS (SELECT who, min(week) AS cohort FROM active GROUP BY who)"
    " SELECT cohort, active.week AS week, count(*) FROM active JOIN began ON active.who = began.who"
    " GROUP BY cohort, active.week ORDER BY 1, 2"
)
_PATHS = (
    "WITH walk AS (SELECT session_id, event_name, row_number() OVER (PARTITION BY session_id ORDER BY event_timestamp) AS n,"
    " lead(event_name) OVER (PARTITION BY session_id ORDER BY event_timestamp) AS following FROM {events} WHERE {range})"
    " SELECT n, event_name, following, count(*) FROM walk WHERE n <= 5 GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 100"
)
_DAYS = "SELECT {day} AS day, count(*) AS n FROM {events} WHERE {range} GROUP BY day ORDER BY day"
_PERSONS = "SELECT {day} AS day, count(DISTINCT {person}) AS n FROM {events} WHERE {range} GROUP BY day ORDER BY day"
_BY_PLAN = (
    "SELECT {day} AS day, {plan} AS plan, count(*) AS n FROM {events} WHERE {range} GROUP BY day, plan ORDER BY 1, 2"
)


def _trends(span: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"range": span, "interval": "day", **more}


def _steps(span: dict[str, str]) -> dict[str, Any]:
    return {"range": span, "steps": [{"event": name} for name in _STEPS], "window_seconds": 7 * 86_400}


QUESTIONS = (
    Question("events a day, 30 days", "trends", _trends(MONTH), 300, _total, _DAYS),
    Question("events a day, a year", "trends", _trends(YEAR), 1_000, _total, _DAYS),
    Question("persons a day, 30 days", "trends", _trends(MONTH, series=[{"measure": "persons"}]), 300, None, _PERSONS),
    Question("persons a day, a year", "trends", _trends(YEAR, series=[{"measure": "persons"}]), 2_500, None, _PERSONS),
    Question("by plan, a year", "trends", _trends(YEAR, breakdown=["event_metadata.plan"]), 2_500, None, _BY_PLAN),
    Question("funnel, 30 days", "funnel", _steps(MONTH), 300, None, _FUNNEL),
    Question("funnel, a year", "funnel", _steps(YEAR), 2_500, None, _FUNNEL),
    Question("retention, 30 days", "retention", {"range": MONTH, "periods": 4}, 300, None, _RETENTION),
    Question("retention, a year", "retention", {"range": YEAR, "periods": 52}, 2_500, None, _RETENTION),
    Question("paths, 30 days", "paths", {"range": MONTH, "steps": 5}, 300, None, _PATHS),
    Question("paths, a year", "paths", {"range": YEAR, "steps": 5}, 6_000, None, _PATHS),
    Question("lifecycle, a year", "lifecycle", {"range": YEAR}, 2_500, None, _RETENTION),
    Question("sessions, 30 days", "sessions", {"range": MONTH, "interval": "day"}, 300, None, ""),
)


def _range(span: dict[str, str]) -> str:
    last = f"TIMESTAMP '{span['to']} 23:59:59.999'"
    return f"event_timestamp >= TIMESTAMP '{span['from']} 00:00:00' AND event_timestamp <= {last}"


def _clickhouse_range(span: dict[str, str]) -> str:
    return (
        f"date BETWEEN '{span['from']}' AND '{span['to']}'"
        f" AND event_timestamp >= toDateTime64('{span['from']} 00:00:00', 3, 'UTC')"
        f" AND event_timestamp <= toDateTime64('{span['to']} 23:59:59.999', 3, 'UTC')"
    )


class Plan:
    """The plan's schema, in an engine of its own process."""

    def __init__(self, data: Path) -> None:
        self._store: ClickHouse = open_store(load_settings(data=data))

    def ask(self, question: Question) -> list[Any]:
        sql = question.sql.format(
            events="plan.events",
            person="user_id",
            day="toDate(event_timestamp)",
            week="toMonday(event_timestamp)",
            plan="event_metadata.plan::Nullable(String)",
            range=_clickhouse_range(question.body["range"]),
        )
        return list(self._store.select(sql, settings={"max_threads": 2, "joined_subquery_requires_alias": 0}).rows)

    def close(self) -> None:
        self._store.close()


class Duck:
    def __init__(self, data: Path) -> None:
        import duckdb

        self._db = duckdb.connect()
        self._db.execute("SET threads = 2; SET memory_limit = '4GB'; SET TimeZone = 'UTC'")
        self._events = f"read_parquet('{data}/parquet/*.parquet')"

    def ask(self, question: Question) -> list[Any]:
        sql = question.sql.format(
            events=self._events,
            person="person",
            day="date_trunc('day', event_timestamp)",
            week="date_trunc('week', event_timestamp)",
            plan="plan",
            range=_range(question.body["range"]),
        )
        return self._db.execute(sql).fetchall()

    def close(self) -> None:
        self._db.close()


def third(ask: Callable[[Question], list[Any]], question: Question) -> tuple[float | None, list[Any]]:
    """Milliseconds of the third time; None where it cannot be asked or fails."""
    if not question.sql:
        return None, []
    taken, rows = 0.0, []
    for _ in range(3):
        started = time.perf_counter()
        try:
            rows = ask(question)
        except Exception as error:
            print(f"  {question.name}: {str(error)[:200]}")
            return None, []
        taken = (time.perf_counter() - started) * 1000
    return taken, rows


def ours(data: Path) -> dict[str, tuple[float, float, dict[str, Any]]]:
    """(cold, warm, answer) by question; cold ones in a process of their own each."""
    os.environ["TWINTRACK_QUERY_CACHE_ANSWERS"] = "0"
    cold: dict[str, float] = {}
    found: dict[str, tuple[float, float, dict[str, Any]]] = {}
    key = ""
    for question in QUESTIONS:
        served = Served(folder=data)
        try:
            key = key or served.key("owner", PROJECT)
            cold[question.name], _ = _asked(served, key, question)
        finally:
            served.stop()
    served = Served(folder=data)
    try:
        for question in QUESTIONS:
            _asked(served, key, question)
            _asked(served, key, question)
            warm, answer = _asked(served, key, question)
            found[question.name] = (cold[question.name], warm, answer)
    finally:
        served.stop()
    return found


def _asked(served: Served, key: str, question: Question) -> tuple[float, dict[str, Any]]:
    started = time.perf_counter()
    answer = httpx.post(
        f"http://127.0.0.1:{served.address[1]}/api/analytics/query/{question.kind}",
        json=question.body,
        headers={"Authorization": f"Bearer {key}"},
        timeout=120,
    )
    taken = (time.perf_counter() - started) * 1000
    body: dict[str, Any] = answer.json()
    if answer.status_code != 200:
        print(f"  {question.name}: {body}")
        return float("nan"), {}
    return taken, body


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--people", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, help="Kept, and used again where the year is in it.")
    given = parser.parse_args()
    data = given.folder or Path(tempfile.mkdtemp()) / "data"
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, chdb {version('chdb')},"
          f" duckdb {version('duckdb')}; {given.events:,} events, {given.people:,} people", flush=True)  # fmt: skip
    try:
        if not (data / "parquet").exists():
            fill(data, given.events, given.people)
        us = ours(data)
        plan, duck = Plan(data), Duck(data)
        print(f"{'milliseconds':<26}{'goal':>7}{'cold':>8}{'warm':>8}{'plan':>8}{'duckdb':>8}  read, from")
        for question in QUESTIONS:
            cold, warm, answer = us[question.name]
            beside, rows = third(plan.ask, question)
            ducks, others = third(duck.ask, question)
            if question.number is not None and answer:
                counted = {question.number(answer), sum(r[1] for r in rows), sum(r[1] for r in others)}
                if len(counted) != 1:
                    raise SystemExit(f"{question.name}: the answers differ: {counted}")
            cells = [f"{x:8.0f}" if x is not None else f"{'':>8}" for x in (cold, warm, beside, ducks)]
            print(f"{question.name:<26}{question.goal_milliseconds:>7}{''.join(cells)}"
                  f"  {answer.get('rows_read', 0):,} {answer.get('source', '')}", flush=True)  # fmt: skip
        plan.close()
        duck.close()
    finally:
        if given.folder is None:
            shutil.rmtree(data.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
