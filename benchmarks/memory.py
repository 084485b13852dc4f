"""Resident memory of the service and its engine while events come in: `python -m benchmarks.memory --seconds 60`.

Offers a fixed rate of batches of 100 of the mix over keep-alive connections and samples `/proc` each half second.
"""

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path

from benchmarks.ingest import BATCH, CONNECTIONS, Served, post
from benchmarks.mix import events


def resident_megabytes(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def children(process: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


async def offer(served: Served, rate: int, seconds: float) -> tuple[list[tuple[float, float, float]], int]:
    """Samples of (seconds, service MB, engine MB) and how many events were taken."""
    samples: list[tuple[float, float, float]] = []
    started, sent, stopping = time.monotonic(), 0, asyncio.Event()

    async def sample() -> None:
        engine = children(served.process.pid)[0]
        while not stopping.is_set():
            samples.append(
                (time.monotonic() - started, resident_megabytes(served.process.pid), resident_megabytes(engine))
            )
            await asyncio.sleep(0.5)

    sampling = asyncio.create_task(sample())
    seed = 0
    while (passed := time.monotonic() - started) < seconds:
        due = int(rate * passed) - sent
        if due < BATCH * CONNECTIONS:
            await asyncio.sleep(0.05)
            continue
        seed += 1
        made = events(min(due, 20 * BATCH), seed=seed, start_milliseconds=time.time_ns() // 1_000_000 - 1000)
        bodies = [json.dumps(made[i : i + BATCH]).encode() for i in range(0, len(made), BATCH)]
        await post(served.address, bodies, served.write, CONNECTIONS)
        sent += len(made)
    stopping.set()
    await sampling
    return samples, sent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=int, default=10_000, help="events per second offered")
    given = parser.parse_args()
    served = Served()
    try:
        samples, sent = asyncio.run(offer(served, given.rate, given.seconds))
        late = samples[len(samples) // 2 :]
        total = [service + engine for _, service, engine in samples]
        print(
            f"{sent:,} events in {given.seconds:.0f} s; resident: most {max(total):.0f} MB, second half"
            f" {statistics.mean(service + engine for _, service, engine in late):.0f} MB"
            f" (service {statistics.mean(s for _, s, _ in late):.0f}, most {max(s for _, s, _ in samples):.0f};"
            f" engine {statistics.mean(e for _, _, e in late):.0f}, most {max(e for _, _, e in samples):.0f})"
        )
        for at in range(0, len(samples), max(1, len(samples) // 12)):
            print("  {:5.1f} s  service {:6.1f} MB  engine {:6.1f} MB".format(*samples[at]))
    finally:
        served.stop()


if __name__ == "__main__":
    main()
