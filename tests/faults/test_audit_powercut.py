"""A power cut at any moment: every record that somebody was answered for is on the platter, and the chain is whole."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.powercut import WORDS, Disk, calls
from twintrack.privacy import chain
from twintrack.privacy.audit import Audit
from twintrack.testing import ManualClock

SOURCE = Path(__file__).parents[2] / "src"
RECORDS = 25
PROGRAM = """
import os, sys
from pathlib import Path
from twintrack.clock import SystemClock
from twintrack.privacy.audit import OPERATOR, Audit
Path(sys.argv[1]).mkdir()
audit = Audit(Path(sys.argv[1]) / "audit", SystemClock(), file_bytes=2_000)
for number in range(1, int(sys.argv[2]) + 1):
    audit.record(OPERATOR, "sql", rows=number)
    os.write(1, b"answered\\n")
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str, int]]]:
    assert shutil.which("strace"), "the power cut tests need strace: apt-get install strace"
    folder = tmp_path_factory.mktemp("audit")
    words = [*WORDS, "-o", str(folder / "trace"), sys.executable, "-c", PROGRAM, str(folder / "data"), str(RECORDS)]
    done = subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(SOURCE)})
    assert done.stdout.count(b"answered") == RECORDS
    return folder / "data", list(calls(folder / "trace"))


def is_answer(name: str, arguments: str) -> bool:
    return name == "write" and arguments.startswith("1<") and b"answered".hex() in arguments.replace("\\x", "")


@pytest.mark.parametrize("seed", range(8))
def test_power_cut_keeps_each_record_that_was_answered(
    tmp_path: Path, recorded: tuple[Path, list[tuple[str, str, int]]], seed: int
) -> None:
    """Seed 0 cuts behind the last answer and keeps nothing unsynced; the others at random."""
    data, found = recorded
    source = random.Random(seed)
    answers = [number for number, call in enumerate(found, 1) if is_answer(*call[:2])]
    assert len(answers) == RECORDS, "the trace does not see the answers"
    place = source.randint(answers[0], answers[-1]) if seed else answers[-1]
    disk = Disk(data, strict=data / "audit")
    for call in found[:place]:
        disk.apply(*call)
    disk.write_to(tmp_path / "data", source if seed else None)
    audit = Audit(tmp_path / "data" / "audit", ManualClock())
    audit.close()
    verdict = chain.verify(tmp_path / "data" / "audit")
    assert verdict.fault is None
    assert verdict.records >= sum(answer <= place for answer in answers)
