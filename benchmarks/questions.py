"""Every kind of question over a year of events, beside the same as SQL on the plan's own schema, in DuckDB, in pandas.

`python -m benchmarks.questions --events 20000000 --people 200000 [--folder DIR] [--no-cold] [--only TEXT]` makes the
year where the folder has none (benchmarks/year.py), then asks each question of a service whose result cache is off: cold
is the first time in a fresh process, warm the third, engine the processor time of that third time. The others get persons
resolved already and are asked three times too, the last one counts. pandas holds the columns of a month in memory, so only
questions of a month are put to it. Memory is the most that the engine held for one statement of the question, as it counts
it itself. What the plan's schema and DuckDB answer is compared with ours, all of it but what `asked.py` names; a difference
ends the run, and the last line says how many were alike. How time grows: a quarter, a half and the whole of the year,
nanoseconds of the engine's processor time for each row read.
DuckDB is no dependency of ours: `.venv/bin/pip install duckdb==2.0.1` first.
"""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2 as httpx

from benchmarks.asked import KINDS, MONTH, QUESTIONS, YEAR, Question
from benchmarks.others import Duck, Pandas, Plan
from benchmarks.service import Served
from benchmarks.year import PROJECT, fill

# How time grows: kinds that read every row of their range.
_GROWING = ("persons a day", "funnel", "retention", "stickiness")
_PARTS = (
    ("a quarter", {"from": "2026-08-01", "to": "2026-10-31"}),
    ("a half", {"from": "2026-05-01", "to": "2026-10-31"}),
    ("the year", YEAR),
)


def third(ask: Callable[[Question], list[Any]], question: Question) -> tuple[float | None, list[Any]]:
    """Milliseconds of the third time; None where it cannot be asked or fails."""
    taken, rows = 0.0, []
    for _ in range(3):
        started = time.perf_counter()
        try:
            rows = ask(question)
        except KeyError:  # not written for this one
            return None, []
        except Exception as error:
            print(f"  {question.name}: {str(error)[:200]}", flush=True)
            return None, []
        taken = (time.perf_counter() - started) * 1000
    return taken, rows


def check(question: Question, answer: dict[str, Any], store: str, rows: list[Any]) -> None:
    """Ends the run where a store's answer is another one than ours."""
    ours, theirs = question.number(answer), question.told(rows)
    if ours != theirs:
        raise SystemExit(
            f"{question.name}: the answers differ\nours: {str(ours)[:2_000]}\n{store}: {str(theirs)[:2_000]}"
        )


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
    for kind in KINDS:
        if kind.name not in _GROWING:
            continue
        cells = []
        for said, span in _PARTS:
            question = kind.over(said, span)
            _, worked, answer = warmly(served, key, [question])[question.name]
            rows = answer.get("rows_read", 0)
            cells.append(f"{worked * 1e6 / rows:12.0f}" if rows else f"{'refused':>12}")
        print(f"{kind.name:<26}{''.join(cells)}", flush=True)


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
        alike = 0
        for question in questions:
            taken, worked, answer = warm[question.name]
            held = plan.memory_bytes(answer)
            beside, rows = third(plan.ask, question)
            ducks, others = third(duck.ask, question)
            if answer:
                told = [("the plan's schema", rows)] * (beside is not None) + [("DuckDB", others)] * (ducks is not None)
                for store, found in told:
                    check(question, answer, store, found)
                alike += len(told)
            pandas, _ = third(frame.ask, question) if question.span is MONTH else (None, [])
            figures = (cold.get(question.name), taken, worked, beside, ducks, pandas)
            cells = [f"{x:8.0f}" if x is not None else f"{'':>8}" for x in figures]
            size = f"{held / 1e6:6.0f}" if held else f"{'':>6}"
            print(f"{question.name:<24}{question.goal_milliseconds:>7}{''.join(cells)}{size}"
                  f"  {answer.get('rows_read', 0):,} {answer.get('source', '')}", flush=True)  # fmt: skip
        print(f"{alike} answers of the others to {len(questions)} questions are ours")
        plan.close()
        duck.close()
    finally:
        if given.folder is None:
            shutil.rmtree(data.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
