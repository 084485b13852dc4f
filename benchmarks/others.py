"""The others that are asked the same: the plan's schema, DuckDB on Parquet, pandas. Each puts its own words into the SQL."""

import re
import threading
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks import asked
from benchmarks.asked import MONTH, STEPS, WINDOW_DAYS, YEAR, Question
from twintrack.metrics import Metrics
from twintrack.query.execute import Executor
from twintrack.settings import load_settings
from twintrack.store.clickhouse import ClickHouse
from twintrack.store.embedded import open_store


def _sql(question: Question, words: dict[str, str], moment: Callable[[date], str]) -> str:
    """The question's SQL in a store's words. Raises: KeyError for a word that it does not have."""
    first, behind = (date.fromisoformat(question.span[edge]) for edge in ("from", "to"))
    mondays = [day - timedelta(days=day.weekday()) for day in (first, behind)]
    behind += timedelta(days=1)
    return question.sql.format(
        **words,
        step=words["week" if question.span is YEAR else "day"],  # as ours steps where no interval is asked for
        start=moment(first),
        end=moment(behind),
        range=_between(first, behind, words, moment),
        reach=_between(first, behind + timedelta(days=WINDOW_DAYS), words, moment),
        monday=f"DATE '{mondays[0]}'",
        last_monday=f"DATE '{mondays[1]}'",
        now=str(time.time_ns() // 1_000_000),
    )


def _between(first: date, behind: date, words: dict[str, str], moment: Callable[[date], str]) -> str:
    """Also by the column of days, where the store prunes by it."""
    days = f"date BETWEEN '{first}' AND '{behind - timedelta(days=1)}' AND " if "by_date" in words else ""
    return f"{days}event_timestamp >= {moment(first)} AND event_timestamp < {moment(behind)}"


class Plan:
    """The plan's schema, in an engine of its own process."""

    _WORDS = {
        "events": "plan.events",
        "person": "user_id",
        "id": "toUInt128(event_id)",  # by which events are ordered
        "day": "toDate(event_timestamp)",
        "week": "toMonday(event_timestamp)",
        "milliseconds": "toUnixTimestamp64Milli",
        "plan": "event_metadata.plan::Nullable(String)",
        "feature": "event_metadata.feature::Nullable(String)",
        "role": "event_metadata.role::Nullable(String)",
        "properties": "distinctJSONPathsAndTypes(event_metadata)",
        "by_date": "",
    }

    def __init__(self, data: Path) -> None:
        settings = load_settings(data=data)
        self._store: ClickHouse = open_store(settings)
        self._bounds = Executor(self._store, settings, Metrics()).bounds()

    def ask(self, question: Question) -> list[Any]:
        sql = _sql(question, self._WORDS, lambda day: f"toDateTime64('{day} 00:00:00', 3, 'UTC')")
        sql = re.sub(r"quantile_cont\((\w+), ([\d.]+)\)", r"quantileExactInclusive(\2)(\1)", sql)
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
            self._store.select(sql, parameters, {**self._bounds, "log_comment": mark})
        finally:
            done.set()
            watching.join()
        return max(held)

    def close(self) -> None:
        self._store.close()


class Duck:
    """Raises: KeyError for a question about what its files do not hold."""

    def __init__(self, data: Path) -> None:
        import duckdb

        self._db = duckdb.connect()
        self._db.execute("SET threads = 2; SET memory_limit = '4GB'; SET TimeZone = 'UTC'")
        self._words = {
            "events": f"read_parquet('{data}/parquet/*.parquet')",
            "person": "person",
            "id": "event_id",
            "day": "CAST(event_timestamp AS DATE)",
            "week": "CAST(date_trunc('week', event_timestamp) AS DATE)",
            "milliseconds": "epoch_ms",
            "plan": "plan",
            "feature": "feature",
            "role": "role",
        }

    def ask(self, question: Question) -> list[Any]:
        sql = _sql(question, self._words, lambda day: f"TIMESTAMP '{day} 00:00:00'")
        return self._db.execute(sql).fetchall()

    def close(self) -> None:
        self._db.close()


class Pandas:
    """The columns of a month in memory; reading them in is not counted, and its answers are not compared: see `asked.py`."""

    def __init__(self, data: Path) -> None:
        import pandas  # type: ignore[import-untyped,unused-ignore]

        frame = pandas.read_parquet(data / "parquet" / "202610.parquet")
        frame["day"] = frame["event_timestamp"].dt.floor("D")
        self._frame = frame[frame["day"] <= pandas.Timestamp(MONTH["to"], tz=frame["day"].dt.tz)]

    def ask(self, question: Question) -> list[Any]:
        """Raises: KeyError for what is not written for pandas."""
        known: dict[str, Callable[[Any], Any]] = {
            asked.DAYS: lambda f: f.groupby("day").size(),
            asked.PERSONS: lambda f: f.groupby("day")["person"].nunique(),
            asked.BY_PLAN: lambda f: f.groupby(["day", "plan"]).size(),
            asked.FUNNEL: _funnel,
            asked.RETENTION: _retention,
            asked.STICKINESS: lambda f: f.groupby("person")["day"].nunique().value_counts(),
            asked.PATHS: _paths,
            asked.SESSIONS: lambda f: f.groupby("session_id")["event_timestamp"].agg(["count", "min", "max"]).mean(),
            asked.THREADS: lambda f: (
                f[f["thread_id"].notna()].groupby("thread_id")["event_timestamp"].agg(["count", "min", "max"])
            ),
            asked.USERS: lambda f: f.groupby("person").agg(
                {"event_timestamp": ["min", "max", "count"], "session_id": "nunique"}
            ),
            asked.EVENTS: lambda f: f.nlargest(101, "event_timestamp"),
            asked.VALUES: lambda f: f["feature"].value_counts(),
            asked.COHORT: lambda f: (f[f["event_name"] == "conversion_purchase"].groupby("person").size() >= 2).sum(),
            asked.ACTORS: lambda f: (
                f[f["event_name"] == "checkout"].groupby("person")["event_timestamp"].agg(["min", "max", "count"])
            ),
        }
        return [known[question.sql](self._frame)]


def _funnel(frame: Any) -> Any:
    """Each first event with the next second one, and the third behind that."""
    import pandas

    first, second, third = (
        frame[frame["event_name"] == name][["person", "event_timestamp"]]
        .rename(columns={"event_timestamp": name})
        .sort_values(name)
        for name in STEPS
    )
    behind = {"by": "person", "direction": "forward", "allow_exact_matches": False}
    way = pandas.merge_asof(first, second, left_on=STEPS[0], right_on=STEPS[1], **behind)
    counts = [way["person"].nunique()]
    for name in STEPS[1:]:
        way = way[(way[name] - way[STEPS[0]]) <= pandas.Timedelta(days=WINDOW_DAYS)]
        counts.append(way["person"].nunique())
        if name == STEPS[1]:
            way = pandas.merge_asof(way.sort_values(name), third, left_on=name, right_on=STEPS[2], **behind)
    return counts


def _retention(frame: Any) -> Any:
    week = frame["day"] - (frame["day"].dt.day_of_week * 86_400).astype("timedelta64[s]")
    active = frame.assign(week=week)[["person", "week"]].drop_duplicates()
    active["cohort"] = active.groupby("person")["week"].transform("min")
    return active.groupby(["cohort", "week"]).size()


def _paths(frame: Any) -> Any:
    walk = frame[["session_id", "event_timestamp", "event_name"]].sort_values(["session_id", "event_timestamp"])
    walk = walk[
        (walk["session_id"] != walk["session_id"].shift()) | (walk["event_name"] != walk["event_name"].shift())
    ].copy()
    walk["n"] = walk.groupby("session_id").cumcount()
    walk["following"] = walk.groupby("session_id")["event_name"].shift(-1)
    return walk[walk["n"] < 5].groupby(["n", "event_name", "following"], dropna=False).size()
