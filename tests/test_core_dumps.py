"""No process of ours leaves a dump: it would hold keys, opened texts, and events that nobody has masked."""

import os
import resource
import subprocess
import sys
from pathlib import Path

from tests.faults.test_wire import until


def may_dump(process: int) -> bool:
    (line,) = (line for line in Path(f"/proc/{process}/limits").read_text().splitlines() if "core file" in line)
    return line.split()[4:6] != ["0", "0"]


def children(process: int) -> list[int]:
    return [
        int(pid) for task in Path(f"/proc/{process}/task").iterdir() for pid in (task / "children").read_text().split()
    ]


def allow() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def test_command_that_opens_events_and_its_engine_leave_no_dump(tmp_path: Path) -> None:
    """An import in its own process: it waits at the end of a file that another one writes."""
    pipe = tmp_path / "events.jsonl"
    os.mkfifo(pipe)
    words = [sys.executable, "-m", "twintrack", "import", str(pipe), "--data", str(tmp_path / "data"), "--keep"]
    running = subprocess.Popen(words, preexec_fn=allow, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        with pipe.open("wb"):  # opens when the command reads
            until(lambda: children(running.pid), 120)
            assert not any(may_dump(process) for process in (running.pid, *children(running.pid)))
    finally:
        running.kill()
        running.communicate()


def test_process_that_may_dump_is_seen_as_one() -> None:
    """Else the test above could not fail."""
    sleeping = subprocess.Popen(["sleep", "60"], preexec_fn=allow)
    try:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        assert hard != 0, "raise the hard limit of core files (ulimit -Hc): below it nothing can be told"
        assert may_dump(sleeping.pid)
    finally:
        sleeping.kill()
        sleeping.wait()
