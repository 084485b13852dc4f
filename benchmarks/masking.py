"""What masking finds, leaves alone and costs, beside packages that do the same. `python -m benchmarks.masking`.

The labelled set is tests/data/masking. Other packages are installed into a virtual environment of their own under the
system's temporary folder; where that fails they are told as not installed. They are no dependencies of ours.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import adversarial, mix
from twintrack import pii
from twintrack.event import RequestContext, Tenancy, limits
from twintrack.ingest.decode import decode
from twintrack.ingest.pipeline import Rules, prepare

SET = Path(__file__).parents[1] / "tests" / "data" / "masking" / "labelled.jsonl"
OTHERS = Path(__file__).with_name("masking_others.py")
CATEGORIES = ("email", "phone", "ssn", "card", "iban", "ip", "key", "secret")
PACKAGES = {
    "presidio": ["presidio-analyzer==2.2.366"],
    "datafog": ["datafog==4.9.0"],
    "scrubadub": ["scrubadub==2.0.1"],
    "detect-secrets": ["detect-secrets==1.5.0"],
}
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"


def labelled() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SET.read_text().splitlines()]


def judge(entries: list[dict[str, Any]], spans: list[list[tuple[int, int]]]) -> dict[str, tuple[int, int]]:
    """(good, all) by category. A line is found where every letter and digit of its marked values is covered; a clean
    line is good where nothing was found."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entry, found in zip(entries, spans, strict=True):
        covered = set()
        for start, end in found:
            covered.update(range(start, end))
        places = [i for start, end in entry["spans"] for i in range(start, end) if entry["text"][i].isalnum()]
        good = all(i in covered for i in places) if places else not found
        category = entry["category"].partition("/")[0]
        for name in (category,) if category == "clean" else (category, "all"):
            counts[name][0] += good
            counts[name][1] += 1
    return {name: (good, every) for name, (good, every) in counts.items()}


def seconds_of(work: Callable[[], Any], least: float = 1.0) -> tuple[float, int]:
    """CPU seconds and rounds."""
    work()
    started, rounds = time.process_time(), 0
    while time.process_time() - started < least:
        work()
        rounds += 1
    return time.process_time() - started, rounds


def messages_per_second() -> tuple[float, float]:
    """Messages of 70 characters: prose of the bench mix with one in ten that holds something; the labelled set."""
    masker = pii.default()
    source = mix.random.Random(7)
    secrets = ["ada@example.com", "+1 415 555 0132", "4111 1111 1111 1111", "password: hunter22"]
    texts = []
    for index in range(5000):
        text = ""
        while len(text) < 70:
            text += source.choice(mix.MIX["words"]) + " "
        texts.append(f"{text[:48]} {source.choice(secrets)} thanks"[:70] if index % 10 == 0 else text[:70])
    every = [entry["text"] for entry in labelled()]
    rates = []
    for some in (texts, every):
        taken, rounds = seconds_of(lambda some=some: [masker.mask(text) for text in some])  # type: ignore[misc]
        rates.append(rounds * len(some) / taken)
    return rates[0], rates[1]


def event_microseconds() -> tuple[float, float]:
    """Time of the whole pipeline for an event of the bench mix, without and with masking; batches of 100, rows that
    were not seen before."""
    context = RequestContext(
        Tenancy("shop", "live"), False, None, 1_767_614_400_000, 0, "::ffff:192.0.2.0", _AGENT, False
    )
    results = []
    for masker in (None, pii.default()):
        rules = Rules(limits(), b"key", False, False, masker, 10)
        best = 1e9
        for seed in range(5):
            wire = mix.events(10_000, seed=seed, start_milliseconds=1_767_614_300_000)
            elements = decode(msgspec.json.encode(wire), limits()).elements
            started = time.process_time()
            for start in range(0, len(elements), 100):
                prepare(elements[start : start + 100], context, rules)
            best = min(best, (time.process_time() - started) / len(elements) * 1e6)
        results.append(best)
    return results[0], results[1]


def growth() -> tuple[str, float]:
    """The worst of the adversarial texts at 100,000 characters: its name and milliseconds."""
    masker = pii.default()
    worst = ("", 0.0)
    for name, piece in adversarial.PIECES.items():
        started = time.process_time()
        masker.mask(adversarial.text(piece, 100_000))
        worst = max(worst, (name, (time.process_time() - started) * 1e3), key=lambda item: item[1])
    return worst


def others(entries: list[dict[str, Any]]) -> None:
    folder = Path(tempfile.gettempdir()) / "twintrack-masking-bench"
    for name, packages in PACKAGES.items():
        place = folder / name
        python = place / "bin" / "python"
        try:
            if not python.exists():
                subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True, timeout=120)
            subprocess.run(
                [python, "-m", "pip", "install", "-q", *packages], check=True, capture_output=True, timeout=400
            )
            done = subprocess.run([python, OTHERS, name, SET], check=True, capture_output=True, text=True, timeout=300)
            answer = json.loads(done.stdout.splitlines()[-1])
        except (subprocess.SubprocessError, OSError, ValueError, IndexError):
            print(f"{name:16} not installed")
            continue
        show(f"{name}", judge(entries, answer["spans"]))
        print(f"{'':16} {answer['messages_per_second']:,.0f} messages/s")


def show(title: str, counts: dict[str, tuple[int, int]]) -> None:
    cells = [
        f"{name} {good}/{every} {good / every:.3f}" for name in ("all", *CATEGORIES) for good, every in [counts[name]]
    ]
    good, every = counts["clean"]
    print(f"{title:16} recall: {', '.join(cells)}; clean touched {every - good}/{every} {(every - good) / every:.3%}")


def main() -> None:
    masker = pii.default()
    entries = labelled()
    for half in ("tune", "held_out"):
        chosen = [entry for entry in entries if entry["half"] == half]
        show(half, judge(chosen, [[(f.start, f.end) for f in masker.find(entry["text"])] for entry in chosen]))
    prose, every = messages_per_second()
    print(f"{prose:,.0f} messages/s of 70 characters, one in ten with a finding; {every:,.0f}/s of the labelled set")
    without, with_masking = event_microseconds()
    print(f"an event of the bench mix: {without:.1f} us without masking, {with_masking:.1f} us with it")
    name, milliseconds = growth()
    print(f"slowest text of 100,000 characters: {name}, {milliseconds:.0f} ms")
    if "--alone" not in sys.argv:
        others(entries)


if __name__ == "__main__":
    main()
