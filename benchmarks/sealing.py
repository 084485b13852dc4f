"""What sealing costs. At rest: the log's records and a chunk's file by themselves. Under keys of people: the pipeline with
a text of 190 characters in each event, and what the first text of a person costs. Then the whole path, plain and sealed
at rest in turns in one run, so that whatever else the machine does falls on both.

    python -m benchmarks.sealing [--events 60000] [--rounds 3]
"""

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.ingest import fresh
from benchmarks.service import Served, flood, requests
from twintrack.clock import SystemClock
from twintrack.control.person_keys import Known, Person, PersonKeys, person_of
from twintrack.control.rollout import Rollout
from twintrack.event import RequestContext, Tenancy, limits
from twintrack.ingest.decode import decode
from twintrack.ingest.pipeline import Rules, prepare
from twintrack.ingest.seal import Sealing
from twintrack.metrics import Metrics
from twintrack.pii.maskers import Maskers
from twintrack.seal import DataKeys
from twintrack.sealed_text import Fields, PersonKey
from twintrack.spool import chunks, segment
from twintrack.spool.chunks import Gathered, Group
from twintrack.spool.protocol import Kind
from twintrack.spool.segment import HEADER_BYTES, Part, Position, Record
from twintrack.testing import wire_event

KEYS = DataKeys(lambda: {1: bytes(range(32))})
ROWS, LINE = 100, b'["demo","local","0198c5e2-7b1a-7c3e-9f00-0123456789ab",' + b'"x' * 280 + b"]"


def _best(work: Callable[[], object], times: int = 7) -> float:
    """Processor seconds: the machine may do other things."""
    found = []
    for _ in range(times):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def records(keys: DataKeys | None) -> float:
    """Microseconds for each event to encode its part of a record, without the disk."""
    part = Part("events", 202601, False, ROWS, bytes(16 * ROWS), b"\n".join([LINE] * ROWS))
    record = Record("demo", "local", 0, "", {"accepted|": ROWS}, [part], [])
    with tempfile.TemporaryDirectory() as folder:
        _, binding = segment.create_segment(Path(folder), 1, Position(0, 0), keys)
        end = Position(1, HEADER_BYTES)
        taken = _best(lambda: [segment.encode_records([record] * 10, binding, end) for _ in range(20)])
    return taken / (20 * 10 * ROWS) * 1e6


def chunk(keys: DataKeys | None) -> float:
    """Microseconds for each event to write and read a chunk of 50,000 rows, without waiting for the disk."""
    gathered = Gathered()
    gathered.add(b"\n".join([LINE] * 50_000), 50_000, ("demo", "local"), 0)
    with tempfile.TemporaryDirectory() as name:
        folder = chunks.Folder(Path(name), keys)

        def work() -> None:
            frozen = chunks.write(folder, Group(Kind.EVENTS, 202601, False, ""), gathered)
            chunks.content(folder, frozen.chunk)
            chunks.path(folder, frozen.chunk.chunk_id).unlink()

        return _best(work, 5) / 50_000 * 1e6


def person_text(sealed: bool) -> float:
    """Microseconds for each event of the pipeline behind decoding; every event has a text, and all keys are known."""
    text = ("Could you help me to word a letter to the people next door? " * 4)[:190]
    events = [wire_event(user_id=f"user-{n % 50}", message_content=text) for n in range(ROWS)]
    elements = decode(msgspec.json.encode(events), limits()).elements
    now = SystemClock().milliseconds()
    context = RequestContext(Tenancy("demo", "local"), True, None, now, 0, "::", "", False)
    known = {person_of("local", f"user-{n}", ""): Known(PersonKey(bytes(9), bytes(32), 0), 1 << 62) for n in range(50)}
    sealing = Sealing(Fields(("message_content",), ()), "demo", known) if sealed else None
    rules = Rules(limits(), b"s" * 32, Rollout(), False, Maskers(None).of("local"), 10, sealing=sealing)
    return _best(lambda: [prepare(elements, context, rules) for _ in range(50)]) / (50 * ROWS) * 1e6


def first_texts(people: int) -> float:
    """Microseconds for each new person of a batch of so many: one transaction, synced."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/person_keys.db"
        keys = PersonKeys(url, KEYS, SystemClock(), Metrics(), lambda _: b"s" * 32, lambda _: None)
        best = min(_made(keys, {person_of("local", f"{turn}-{n}", "") for n in range(people)}) for turn in range(7))
        keys.close()
    return best / people * 1e6


def _made(keys: PersonKeys, people: set[Person]) -> float:
    started = time.perf_counter()
    asyncio.run(keys.make("demo", people))
    return time.perf_counter() - started


def processor_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def whole_path(events: int, seed: int, key: str) -> tuple[float, float]:
    """Events a second until they can be asked for; microseconds of the accepting process for each."""
    served = Served(within=["env", f"TWINTRACK_ENCRYPTION_KEY={key}", "TWINTRACK_LIMIT_PERSON_PER_MINUTE=0"])
    try:
        waiting = requests(fresh(events, seed), served.write)
        before = processor_seconds(served.process.pid)
        started = time.perf_counter()
        asyncio.run(flood(served.address, waiting))
        served.wait_for(events)
        rate = events / (time.perf_counter() - started)
        return rate, (processor_seconds(served.process.pid) - before) / events * 1e6
    finally:
        served.stop()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--events", type=int, default=60_000)
    options.add_argument("--rounds", type=int, default=3)
    asked = options.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, {len(LINE)} bytes an event")
    for name, measure in (("log record", records), ("chunk file", chunk)):
        plain, sealed = measure(None), measure(KEYS)
        print(f"{name}: plain {plain:.2f} us an event, sealed {sealed:.2f}, {sealed - plain:+.2f} us")
    plain, sealed = person_text(False), person_text(True)
    print(f"text under a person's key: {plain:.2f} us an event without, {sealed:.2f} with, {sealed - plain:+.2f} us")
    for people in (1, 100):
        print(f"first text of each of {people} people in a batch: {first_texts(people):,.0f} us a person, synced")
    found: dict[str, list[tuple[float, float]]] = {"plain": [], "sealed": []}
    for seed in range(asked.rounds):
        for name, key in (("plain", ""), ("sealed", "17" * 32)):
            rate, cost = whole_path(asked.events, seed, key)
            found[name].append((rate, cost))
            print(f"round {seed + 1} {name}: {rate:,.0f} events/s, {cost:.1f} us of the accepting process", flush=True)
    for number, what in enumerate(("events/s", "processor time")):
        ratios = [s[number] / p[number] for p, s in zip(found["plain"], found["sealed"], strict=True)]
        shown = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"sealed / plain, {what}: median {statistics.median(ratios):.3f} of {shown}")


if __name__ == "__main__":
    main()
