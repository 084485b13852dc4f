"""Resident memory of the service and its engine over minutes of steady load: `python -m benchmarks.resident`."""

import argparse
import asyncio
import statistics
import threading
import time
from pathlib import Path

from benchmarks.mix import events
from benchmarks.service import Request, Served, offer, requests


def megabytes(process: int) -> tuple[float, float]:
    """Of a served process and of its engine."""
    (engine,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()[:1]
    return _resident(process), _resident(int(engine))


def _resident(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Sampling:
    """(seconds, service MB, engine MB), twice a second."""

    def __init__(self, process: int) -> None:
        self._process, self._ended = process, threading.Event()
        self.samples: list[tuple[float, float, float]] = []
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        started = time.monotonic()
        while not self._ended.wait(0.5):
            self.samples.append((time.monotonic() - started, *megabytes(self._process)))

    def __enter__(self) -> "Sampling":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


class Stream:
    """Requests made as they are sent, so that the generator does not grow either."""

    def __init__(self, key: str, rate: int, seconds: float) -> None:
        self._key, self._rate, self._seconds = key, rate, int(seconds)

    def __iter__(self) -> "Stream":
        self._waiting: list[Request] = []
        self._second = 0
        return self

    def __next__(self) -> Request:
        if not self._waiting:
            if self._second >= self._seconds:
                raise StopIteration
            made = events(self._rate, seed=self._second, start_milliseconds=time.time_ns() // 1_000_000 - 1000)
            self._waiting = requests(made, self._key)[::-1]
            self._second += 1
        return self._waiting.pop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=int, default=20_000, help="events per second offered")
    given = parser.parse_args()
    served = Served()
    try:
        with Sampling(served.process.pid) as sampling:
            sent = asyncio.run(offer(served.address, Stream(served.write, given.rate, given.seconds), given.rate))
        samples = sampling.samples
        totals = [service + engine for _, service, engine in samples]
        tenth = max(1, len(samples) // 10)
        print(
            f"{len(sent) * 100:,} events in {given.seconds:.0f} s; resident: most {max(totals):.0f} MB,"
            f" second tenth {statistics.mean(totals[tenth : 2 * tenth]):.0f} MB,"
            f" last tenth {statistics.mean(totals[-tenth:]):.0f} MB"
        )
        for at in range(0, len(samples), max(1, len(samples) // 12)):
            print("  {:5.0f} s  service {:6.1f} MB  engine {:6.1f} MB".format(*samples[at]))
    finally:
        served.stop()


if __name__ == "__main__":
    main()
