"""Every kind of question over a year of events, beside the same as SQL on the plan's own schema, in DuckDB, in pandas.

`python -m benchmarks.questions --events 20000000 --people 200000 [--folder DIR] [--no-cold] [--only TEXT]` makes the
year where the folder has none (benchmarks/year.py), then asks each question of a service whose result cache is off: cold
is the first time in a fresh process, warm the third, engine the processor time of that third time. The others get persons
resolved already and are asked three times too, the last one counts. pandas holds the columns of a month in memory, so only
questions of a month are put to it. Memory is the most that the engine held for one statement of the question, as it counts
it itself. Numbers that mean the same are compared; a difference ends the run. How time grows: a quarter, a half and the
whole of the year, nanoseconds of the engine's processor time for each row read.
DuckDB is no dependency of ours: `.venv/bin/pip install duckdb==2.0.1` first.
"""

import argparse
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

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
    span: dict[str, str]
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
_STICKINESS = (
    "SELECT n, count(*) FROM (SELECT {person} AS who, count(DISTINCT {day}) AS n FROM {events} WHERE {range}"
    " GROUP BY who) AS a GROUP BY n ORDER BY n"
)
_SESSIONS = (
    "SELECT count(*), avg(n), sum(CASE WHEN n = 1 THEN 1 ELSE 0 END), max(last) FROM (SELECT session_id, count(*) AS n,"
    " min(event_timestamp) AS began, max(event_timestamp) AS last FROM {events} WHERE {range} GROUP BY session_id) AS a"
)
_THREADS = (
    "SELECT count(*), avg(n), avg(answers) FROM (SELECT thread_id, count(*) AS n,"
    " sum(CASE WHEN {role} = 'assistant' THEN 1 ELSE 0 END) AS answers, min(event_timestamp) AS began,"
    " max(event_timestamp) AS last FROM {events} WHERE {range} AND thread_id IS NOT NULL GROUP BY thread_id) AS a"
)
_USERS = (
    "SELECT {person} AS who, min(event_timestamp), max(event_timestamp) AS last, count(*), count(DISTINCT session_id)"
    " FROM {events} WHERE {range} GROUP BY who ORDER BY last DESC, who DESC LIMIT 101"
)
_EVENTS = (
    "SELECT event_id, event_name, event_timestamp, {person}, session_id FROM {events} WHERE {range}"
    " ORDER BY event_timestamp DESC, event_id DESC LIMIT 101"
)
_VALUES = "SELECT {feature} AS value, count(*) AS n FROM {events} WHERE {range} GROUP BY value ORDER BY n DESC LIMIT 50"
_COHORT = (
    "SELECT count(*) FROM (SELECT {person} AS who FROM {events} WHERE {range} AND event_name = 'conversion_purchase'"
    " GROUP BY who HAVING count(*) >= 2) AS a"
)
_ACTORS = (
    "SELECT {person} AS who, min(event_timestamp), max(event_timestamp), count(*) FROM {events} WHERE {range}"
    " AND event_name = 'checkout' GROUP BY who ORDER BY who LIMIT 101"
)


def _trends(span: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"range": span, "interval": "day", **more}


def _steps(span: dict[str, str]) -> dict[str, Any]:
    return {"range": span, "steps": [{"event": name} for name in _STEPS], "window_seconds": 7 * 86_400}


def _buyers(span: dict[str, str]) -> dict[str, Any]:
    return {"definition": {"did": {"event": "conversion_purchase"}, "at_least": 2, "range": span}}


def _people(span: dict[str, str]) -> dict[str, Any]:
    of = {"kind": "trends", "range": span, "series": [{"event": "checkout", "measure": "persons"}]}
    return {"of": of}


# Kind, its body for a range, the goals in milliseconds for 30 days and a year, our number that the others' SQL also has.
_KINDS: tuple[tuple[str, str, Callable[[dict[str, str]], dict[str, Any]], int, int, Any, str], ...] = (
    ("events a day", "trends", _trends, 300, 1_000, _total, _DAYS),
    ("persons a day", "trends", lambda s: _trends(s, series=[{"measure": "persons"}]), 300, 2_500, None, _PERSONS),
    ("by plan", "trends", lambda s: _trends(s, breakdown=["event_metadata.plan"]), 300, 2_500, None, _BY_PLAN),
    ("funnel", "funnel", _steps, 300, 2_500, None, _FUNNEL),
    (
        "retention",
        "retention",
        lambda s: {"range": s, "periods": 4 if s is MONTH else 52},
        300,
        2_500,
        None,
        _RETENTION,
    ),
    ("life cycle", "lifecycle", lambda s: {"range": s}, 300, 2_500, None, _RETENTION),
    ("stickiness", "stickiness", lambda s: {"range": s}, 300, 2_500, None, _STICKINESS),
    ("paths", "paths", lambda s: {"range": s, "steps": 5}, 300, 6_000, None, _PATHS),
    ("sessions", "sessions", lambda s: {"range": s}, 300, 2_500, None, _SESSIONS),
    ("threads", "threads", lambda s: {"range": s}, 300, 2_500, None, _THREADS),
    ("users", "users", lambda s: {"range": s}, 300, 2_500, None, _USERS),
    ("events", "events", lambda s: {"range": s}, 300, 2_500, None, _EVENTS),
    ("values", "properties", lambda s: {"range": s, "property": "event_metadata.feature"}, 300, 2_500, None, _VALUES),
    ("properties", "properties", lambda s: {"range": s}, 300, 2_500, None, ""),
    ("cohort", "cohorts", _buyers, 300, 2_500, lambda answer: int(answer["persons"]), _COHORT),
    ("actors", "actors", _people, 300, 2_500, None, _ACTORS),
)
QUESTIONS = tuple(
    Question(f"{name}, {said}", kind, body(span), span, goal, number, sql)
    for name, kind, body, month, year, number, sql in _KINDS
    for span, said, goal in ((MONTH, "30 days", month), (YEAR, "a year", year))
)
# How time grows: kinds that read every row of their range.
_GROWING = ("persons a day", "funnel", "retention", "stickiness")
_PARTS = (
    ("a quarter", {"from": "2026-08-01", "to": "2026-10-31"}),
    ("a half", {"from": "2026-05-01", "to": "2026-10-31"}),
    ("the year", YEAR),
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
            feature="event_metadata.feature::Nullable(String)",
            role="event_metadata.role::Nullable(String)",
            range=_clickhouse_range(question.span),
        )
        return list(self._store.select(sql, settings={"max_threads": 2, "joined_subquery_requires_alias": 0}).rows)

    def memory_bytes(self, answer: dict[str, Any]) -> int:
        """The most that the engine held for one of the answer's statements; 0 where it was too short to be seen."""
        return max((self._held(s["sql"], s["parameters"]) for s in answer.get("statements", [])), default=0)

    def _held(self, sql: str, parameters: dict[str, Any]) -> int:
        mark, held = f"memory-{uuid4().hex}", [0]
        done = threading.Event()

        def watch() -> None:
            seen = f"SELECT max(peak_memory_usage) FROM system.processes WHERE Settings['log_comment'] = '{mark}'"
            while not done.is_set():
                held.append(int(self._store.select(seen).rows[0][0]))
                done.wait(0.005)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            self._store.select(sql, parameters, {"max_threads": 2, "max_memory_usage": 1 << 30, "log_comment": mark})
        finally:
            done.set()
            watching.join()
        return max(held)

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
            feature="feature",
            role="role",
            range=_range(question.span),
        )
        return self._db.execute(sql).fetchall()

    def close(self) -> None:
        self._db.close()


class Pandas:
    """The columns of a month in memory; reading them in is not counted."""

    def __init__(self, data: Path) -> None:
        import pandas  # type: ignore[import-untyped,unused-ignore]

        frame = pandas.read_parquet(data / "parquet" / "202610.parquet")
        frame["day"] = frame["event_timestamp"].dt.floor("D")
        self._frame = frame[frame["day"] <= pandas.Timestamp(MONTH["to"], tz=frame["day"].dt.tz)]

    def ask(self, question: Question) -> list[Any]:
        """Raises: KeyError for what is not written for pandas."""
        asked: dict[str, Callable[[Any], Any]] = {
            _DAYS: lambda f: f.groupby("day").size(),
            _PERSONS: lambda f: f.groupby("day")["person"].nunique(),
            _BY_PLAN: lambda f: f.groupby(["day", "plan"]).size(),
            _FUNNEL: _funnel,
            _RETENTION: _retention,
            _STICKINESS: lambda f: f.groupby("person")["day"].nunique().value_counts(),
            _PATHS: _paths,
            _SESSIONS: lambda f: f.groupby("session_id")["event_timestamp"].agg(["count", "min", "max"]).mean(),
            _THREADS: lambda f: (
                f[f["thread_id"].notna()].groupby("thread_id")["event_timestamp"].agg(["count", "min", "max"])
            ),
            _USERS: lambda f: f.groupby("person").agg(
                {"event_timestamp": ["min", "max", "count"], "session_id": "nunique"}
            ),
            _EVENTS: lambda f: f.nlargest(101, "event_timestamp"),
            _VALUES: lambda f: f["feature"].value_counts(),
            _COHORT: lambda f: (f[f["event_name"] == "conversion_purchase"].groupby("person").size() >= 2).sum(),
            _ACTORS: lambda f: (
                f[f["event_name"] == "checkout"].groupby("person")["event_timestamp"].agg(["min", "max", "count"])
            ),
        }
        return [asked[question.sql](self._frame)]


def _funnel(frame: Any) -> Any:
    window = 7 * 86_400_000_000_000
    began = frame[frame["event_name"] == _STEPS[0]].groupby("person")["event_timestamp"].min().rename("began")
    last = began
    counts = [len(began)]
    for name in _STEPS[1:]:
        step = (
            frame[frame["event_name"] == name]
            .join(began, on="person", how="inner")
            .join(last.rename("last"), on="person")
        )
        inside = (step["event_timestamp"] - step["began"]).astype("int64") * (
            10**6 if step["began"].dt.unit == "ms" else 1
        )
        step = step[(step["event_timestamp"] > step["last"]) & (inside <= window)]
        last = step.groupby("person")["event_timestamp"].min()
        began = began[began.index.isin(last.index)]
        counts.append(len(last))
    return counts


def _retention(frame: Any) -> Any:
    week = frame["day"] - (frame["day"].dt.day_of_week * 86_400).astype("timedelta64[s]")
    active = frame.assign(week=week)[["person", "week"]].drop_duplicates()
    active["cohort"] = active.groupby("person")["week"].transform("min")
    return active.groupby(["cohort", "week"]).size()


def _paths(frame: Any) -> Any:
    walk = frame[["session_id", "event_timestamp", "event_name"]].sort_values(["session_id", "event_timestamp"])
    walk["n"] = walk.groupby("session_id").cumcount()
    walk["following"] = walk.groupby("session_id")["event_name"].shift(-1)
    return walk[walk["n"] < 5].groupby(["n", "event_name", "following"]).size().nlargest(100)


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
            print(f"  {question.name}: {str(error)[:200]}", flush=True)
            return None, []
        taken = (time.perf_counter() - started) * 1000
    return taken, rows


def coldly(data: Path, key: str, questions: Sequence[Question]) -> dict[str, float]:
    """Milliseconds of the first question in a process, by question."""
    cold = {}
    for question in questions:
        served = Served(folder=data, keys=False)
        try:
            cold[question.name], _ = _asked(served, key, question)
        finally:
            served.stop()
    return cold


def warmly(served: Served, key: str, questions: Sequence[Question]) -> dict[str, tuple[float, int, dict[str, Any]]]:
    """Milliseconds of the third time, those of the engine's processor time, and the answer, by question."""
    found = {}
    for question in questions:
        for _ in range(3):
            before = served.engine_milliseconds()
            taken, answer = _asked(served, key, question)
            found[question.name] = (taken, served.engine_milliseconds() - before, answer)
            if not answer:
                break
    return found


def growing(served: Served, key: str) -> None:
    print(f"{'engine ns a row read':<26}" + "".join(f"{said:>12}" for said, _ in _PARTS))
    for name, kind, body, _, goal, number, sql in _KINDS:
        if name not in _GROWING:
            continue
        cells = []
        for said, span in _PARTS:
            question = Question(f"{name}, {said}", kind, body(span), span, goal, number, sql)
            _, worked, answer = warmly(served, key, [question])[question.name]
            rows = answer.get("rows_read", 0)
            cells.append(f"{worked * 1e6 / rows:12.0f}" if rows else f"{'refused':>12}")
        print(f"{name:<26}{''.join(cells)}", flush=True)


def _asked(served: Served, key: str, question: Question) -> tuple[float, dict[str, Any]]:
    started = time.perf_counter()
    answer = httpx.post(
        f"http://127.0.0.1:{served.address[1]}/api/analytics/query/{question.kind}",
        json=question.body,
        headers={"Authorization": f"Bearer {key}"},
        timeout=300,
    )
    taken = (time.perf_counter() - started) * 1000
    body: dict[str, Any] = answer.json()
    if answer.status_code != 200:
        print(f"  {question.name}: {body}", flush=True)
        return float("nan"), {}
    return taken, body


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--people", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, help="Kept, and used again where the year is in it.")
    parser.add_argument("--only", default="", help="Only questions whose name holds this.")
    parser.add_argument("--no-cold", action="store_true", help="Without the restart for each question.")
    given = parser.parse_args()
    os.environ["TWINTRACK_QUERY_CACHE_ANSWERS"] = "0"
    data = given.folder or Path(tempfile.mkdtemp()) / "data"
    questions = [question for question in QUESTIONS if given.only in question.name]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, chdb {version('chdb')}, duckdb"
          f" {version('duckdb')}, pandas {version('pandas')}; {given.events:,} events, {given.people:,} people",
          flush=True)  # fmt: skip
    try:
        if not (data / "parquet").exists():
            fill(data, given.events, given.people)
        served = Served(folder=data, keys=False)
        try:
            key = served.key("owner", PROJECT)
            warm = warmly(served, key, questions)
            if not given.only:
                growing(served, key)
        finally:
            served.stop()
        cold = {} if given.no_cold else coldly(data, key, questions)
        plan, duck, frame = Plan(data), Duck(data), Pandas(data)
        heads = "".join(f"{head:>8}" for head in ("cold", "warm", "engine", "plan", "duckdb", "pandas"))
        print(f"{'milliseconds':<24}{'goal':>7}{heads}{'MB':>6}  read, from")
        for question in questions:
            taken, worked, answer = warm[question.name]
            held = plan.memory_bytes(answer)
            beside, rows = third(plan.ask, question)
            ducks, others = third(duck.ask, question)
            pandas, _ = third(frame.ask, question) if question.span is MONTH else (None, [])
            if question.number is not None and answer:
                counted = {question.number(answer), sum(r[-1] for r in rows), sum(r[-1] for r in others)}
                if len(counted) != 1:
                    raise SystemExit(f"{question.name}: the answers differ: {counted}")
            figures = (cold.get(question.name), taken, worked, beside, ducks, pandas)
            cells = [f"{x:8.0f}" if x is not None else f"{'':>8}" for x in figures]
            size = f"{held / 1e6:6.0f}" if held else f"{'':>6}"
            print(f"{question.name:<24}{question.goal_milliseconds:>7}{''.join(cells)}{size}"
                  f"  {answer.get('rows_read', 0):,} {answer.get('source', '')}", flush=True)  # fmt: skip
        plan.close()
        duck.close()
    finally:
        if given.folder is None:
            shutil.rmtree(data.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
