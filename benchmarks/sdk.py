"""Delivery of a browser SDK under faults, many seeds a case: `make bench-sdk`, or `python -m benchmarks.sdk --seeds 20`.

Each seed writes one line of JSON as it ends; the table at the end counts them. With `--append FILE` the lines are kept, and
a later run with the same file and build does only the seeds that are not there yet. The exit code is 1 where an event
was lost or doubled, or where a fault did not strike. `--subject` runs peers from npm instead, each against a ledger that
takes what it sends and counts it by id: for them the code is 0.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from tests.e2e.conftest import start
from tests.sdk.cases import CASES
from tests.sdk.seeds import Bench, Line, Rows, Service, service_of
from tests.sdk.subject import TWINTRACK, Subject, peer

PEERS = Path(__file__).parent / "peers"
NAMES = ["twintrack", "openpanel", "posthog", "segment", "snowplow", "statsig"]

Job = tuple[str, str, int]
"""Subject, case, seed."""


def subject_of(name: str) -> Subject:
    # A bundle of a peer is made once, by the makefile.
    return TWINTRACK if name == TWINTRACK.name else peer(name, PEERS / f"dist/{name}.js")


def work(
    jobs: "Queue[Job | None]", lines: "Queue[Line | str]", service: Service | None, patience_seconds: float
) -> None:
    """One process with one browser: a seed at a time until there are no more."""
    with sync_playwright() as playwright:
        benches: dict[str, Bench] = {}
        while job := jobs.get():
            name, case, seed = job
            if name not in benches:
                own = service if name == TWINTRACK.name else None
                benches[name] = Bench(playwright, subject_of(name), own, patience_seconds)
            try:
                lines.put(benches[name].run(case, seed))
            except Exception as failure:  # the other seeds go on; this one is told as failed
                lines.put(f"{name} {case} {seed}: {type(failure).__name__}: {failure}")
        for bench in benches.values():
            bench.close()


def run(jobs: list[Job], service: Service | None, workers: int, patience_seconds: float) -> Iterator[Line | str]:
    """Lines in the order in which seeds end. A text is a seed that the harness itself failed."""
    spawn = multiprocessing.get_context("spawn")
    todo: Queue[Job | None] = spawn.Queue()
    done: Queue[Line | str] = spawn.Queue()
    processes = [spawn.Process(target=work, args=(todo, done, service, patience_seconds)) for _ in range(workers)]
    for process in processes:
        process.start()
    for job in [*jobs, *[None] * workers]:
        todo.put(job)
    try:
        for _ in jobs:
            yield done.get()
    finally:
        for process in processes:
            process.join(30)
            process.terminate()


def table(lines: list[Line]) -> str:
    by_case: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_case[f"{line.subject} {line.case}"].append(line)
    sums = ("tracked", "eligible", "sure", "rows", "lost", "doubled", "young", "broken", "starved", "requests")
    heads = ("case", "seeds", *sums, "proven", "worst seconds", "worst ms to disk")
    rows = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for case, of in sorted(by_case.items(), key=lambda item: _order(item[1][0])):
        cells = [case, len(of), *(sum(getattr(line, name) for line in of) for name in sums)]
        cells += [
            sum(bool(line.proof) for line in of),
            max(line.seconds for line in of),
            max(line.disk_ms for line in of),
        ]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def _order(line: Line) -> tuple[int, int]:
    return NAMES.index(line.subject), list(CASES).index(line.case)


def beside(lines: list[Line]) -> str:
    """One row a case, one column a subject: lost / doubled of how many eligible events."""
    names = [name for name in NAMES if any(line.subject == name for line in lines)]
    rows = [f"| lost / doubled of eligible | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for case in CASES:
        cells = []
        for name in names:
            of = [line for line in lines if line.subject == name and line.case == case and line.proof]
            lost, doubled, all_ = (sum(getattr(line, n) for line in of) for n in ("lost", "doubled", "eligible"))
            cells.append(f"{lost} / {doubled} of {all_}" if of else "-")
        rows.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(rows)


def kept(file: Path | None, builds: set[str]) -> list[Line]:
    """Lines of these builds in a file of an earlier run."""
    if not file or not file.exists():
        return []
    found: list[dict[str, Any]] = [json.loads(text) for text in file.read_text().splitlines()]
    return [Line(**{k: v for k, v in one.items() if k != "passed"}) for one in found if one["build"] in builds]


@contextmanager
def served(wanted: bool) -> Iterator[Service | None]:
    if not wanted:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        running = start(Path(folder) / "data")
        try:
            yield service_of(running)
        finally:
            running.stop()


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="seeds of each case (default: 100)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this case; may be repeated")
    parser.add_argument("--subject", action="append", choices=NAMES, help="may be repeated (default: twintrack)")
    parser.add_argument("--workers", type=int, default=2, help="browsers at a time (default: 2)")
    parser.add_argument(
        "--patience", type=float, default=40, help="seconds that lost events are waited for (default: 40)"
    )
    parser.add_argument("--append", type=Path, help="keeps the lines; seeds that stand there already are not run again")
    return parser.parse_args(words)


def main() -> int:
    options = options_of()
    subjects = [subject_of(name) for name in options.subject or [TWINTRACK.name]]
    missing = [subject.script for subject in subjects if not subject.script.exists()]
    if missing:
        print(f"not built: {', '.join(map(str, missing))}; run `make build bench-peers`", file=sys.stderr)
        return 2
    lines = kept(options.append, {subject.build() for subject in subjects})
    there = {(line.subject, line.case, line.seed) for line in lines}
    seeds = range(options.first, options.first + options.seeds)
    every = [(subject.name, case, seed) for seed in seeds for subject in subjects for case in options.case or CASES]
    jobs = [job for job in every if job not in there]
    failed: list[str] = []
    began = time.monotonic()
    doubled: dict[str, int] = {}
    with served(any(name == TWINTRACK.name for name, _, _ in jobs)) as service:
        for line in run(jobs, service, min(options.workers, len(jobs)), options.patience):
            if isinstance(line, str):
                failed.append(line)
                print(json.dumps({"failed": line}), flush=True)
                continue
            lines.append(line)
            print(line.text(), flush=True)
            if options.append:
                with options.append.open("a") as file:
                    file.write(line.text() + "\n")
        if service:
            rows = Rows(service)
            doubled = rows.doubled()
            rows.close()
    print(table(lines))
    if len(subjects) > 1:
        print(beside(lines))
    print(
        f"{len(jobs)} seeds in {time.monotonic() - began:.0f} s; doubled after all: {doubled or 0}; failed: {len(failed)}"
    )
    ours = [line for line in lines if line.subject == TWINTRACK.name]
    return int(bool(doubled or failed) or not all(line.passed for line in ours))


if __name__ == "__main__":
    raise SystemExit(main())
