"""The index of ids: its bytes per million, and claims a second while it is larger than memory.

`python -m benchmarks.index --ids 20000000 --memory-megabytes 256`: fills an index in a process of its own, then claims
batches of new ids under a memory limit of that process and its page cache (a cgroup, so root), beside the same without.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twintrack.spool.claims import Claims, project_tag

_GROUP = Path("/sys/fs/cgroup/memory/twintrack-bench")
_BATCH = 1000


def keys(count: int, source: random.Random, born: int) -> list[bytes]:
    """UUIDv7 claims, 20 born in each millisecond."""
    tag = project_tag("bench")
    made = []
    for index in range(count):
        high = (born + index // 20).to_bytes(6, "big") + bytes([0x70 | source.getrandbits(4), source.getrandbits(8)])
        made.append(high + bytes([0x80 | source.getrandbits(6)]) + source.randbytes(7) + tag)
    return made


def fill(folder: Path, ids: int) -> None:
    claims, source, born = Claims(folder, 64 << 30), random.Random(1), 1_700_000_000_000
    for done in range(0, ids, _BATCH * 10):
        transaction, _ = claims.claim([(sorted(keys(_BATCH * 10, source, born + done // 20)), False)])
        transaction.commit()
    print(claims.used_bytes())
    claims.close()


def claim(folder: Path, ids: int, seconds: float, share_old: float) -> None:
    """Claims a second; `share_old` of the ids were born anywhere in the index's time, the others are newest."""
    claims, source, born = Claims(folder, 64 << 30), random.Random(os.getpid()), 1_700_000_000_000
    newest, done, spent, slowest, started = born + ids // 20, 0, 0.0, 0.0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        old = [k for _ in range(int(_BATCH * share_old)) for k in keys(1, source, born + source.randrange(ids // 20))]
        new = keys(_BATCH - len(old), source, newest)
        newest += _BATCH // 20
        at = time.perf_counter()
        transaction, _ = claims.claim([(sorted(new + old), False)])
        transaction.commit()
        taken = time.perf_counter() - at
        spent, slowest = spent + taken, max(slowest, taken)
        done += _BATCH
    print(f"{done / spent:,.0f} claims/s, slowest batch of {_BATCH} {slowest * 1000:.0f} ms")
    claims.close()


def child(*words: object) -> str:
    command = [sys.executable, "-m", "benchmarks.index", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ids", type=int, default=20_000_000)
    parser.add_argument("--memory-megabytes", type=int, default=256)
    parser.add_argument("--step", choices=["fill", "claim"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--old", type=float, default=0.0)
    given = parser.parse_args()
    if given.step == "fill":
        return fill(given.folder, given.ids)
    if given.step == "claim":
        return claim(given.folder, given.ids, 10, given.old)
    folder = Path(tempfile.mkdtemp())
    try:
        size = int(child("--step", "fill", "--ids", given.ids, "--folder", folder / "index"))
        print(
            f"index      {size / given.ids:.1f} bytes per id: {size / given.ids:.1f} MB per million, {size >> 20} MiB"
        )
        for old in (0.0, 0.01):
            words = ("--step", "claim", "--ids", given.ids, "--folder", folder / "index", "--old", old)
            (folder / "index" / "data.mdb").read_bytes()  # the page cache has it again
            print(f"in memory  {old:.0%} old: {child(*words)}", flush=True)
            _GROUP.mkdir(exist_ok=True)
            (_GROUP / "memory.limit_in_bytes").write_text(str(given.memory_megabytes << 20))
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("1")
            shell = f"echo $$ > {_GROUP}/cgroup.procs; exec {sys.executable} -m benchmarks.index {' '.join(map(str, words))}"
            done = subprocess.run(["sh", "-c", shell], check=True, capture_output=True, text=True)
            print(f"{given.memory_megabytes} MiB    {old:.0%} old: {done.stdout.strip()}", flush=True)
    finally:
        shutil.rmtree(folder)
        if _GROUP.exists():
            _GROUP.rmdir()
    return None


if __name__ == "__main__":
    main()
