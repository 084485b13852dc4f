"""Designs without one of the things that exactly-once rests on make the suite fail: a test is run against each.

A checkout is copied, one text of it is replaced, and one test is run there; the same test passes on the copy as it is.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
WINDOW = "non_replicated_deduplication_window = 10000"
POWER_CUT = "tests/faults/test_powercut.py::test_power_cut_keeps_each_acknowledged_event_once[0]"
COMMITTED = "tests/faults/test_wire.py::test_fault_of_inserts_loses_and_doubles_nothing[500 after it committed]"


class Mutant(NamedTuple):
    file: str
    old: str
    new: str
    times: int
    test: str


MUTANTS = {
    "no fsync": Mutant(
        "spool/log.py",
        "            os.fdatasync(self._handle)\n",
        "",
        1,
        POWER_CUT,
    ),
    "no fsync of the folder": Mutant("spool/segment.py", "        sync_folder(folder)\n", "", 1, POWER_CUT),
    # Equal blocks are known by their content too; what is inserted again on purpose is told by its token alone.
    "no token": Mutant(
        "store/clickhouse.py",
        ', "insert_deduplication_token": token',
        "",
        1,
        "tests/faults/test_exactly_once.py::test_rows_that_the_store_lost_with_the_machine_are_inserted_again[all]",
    ),
    "no window on the rollups": Mutant("store/migrations/0002_rollups.sql", WINDOW, WINDOW[:-5] + "0", 2, COMMITTED),
    "no tolerant decode": Mutant(
        "ingest/decode.py",
        "        return _decode_each(text, limits)\n",
        '        raise RequestError("the body is not JSON", hint="", code="bad_json") from None\n',
        1,
        "tests/ingest/test_decode.py::test_bad_element_between_brackets_costs_no_neighbour",
    ),
}


def checkout(folder: Path) -> Path:
    for name in ("src", "tests", "contract"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def mutate(file: Path, mutant: Mutant) -> None:
    text = file.read_text()
    assert text.count(mutant.old) == mutant.times, f"{file.name} has changed: the mutant no longer applies"
    file.write_text(text.replace(mutant.old, mutant.new))


def passes(folder: Path, *tests: str, patience_seconds: int = 120) -> tuple[bool, str]:
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), "TWINTRACK_PATIENCE_SECONDS": str(patience_seconds)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr  # it ran: no error of collection, no missing test
    return done.returncode == 0, done.stdout


def test_copy_without_a_mutation_passes(tmp_path: Path) -> None:
    passed, said = passes(checkout(tmp_path / "copy"), *sorted({mutant.test for mutant in MUTANTS.values()}))
    assert passed, said


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_makes_the_suite_fail(tmp_path: Path, name: str) -> None:
    folder, mutant = checkout(tmp_path / "copy"), MUTANTS[name]
    mutate(folder / "src" / "twintrack" / mutant.file, mutant)
    passed, said = passes(folder, mutant.test, patience_seconds=20)
    assert not passed, f"{name} goes unnoticed"
    assert "1 failed" in said and "SyntaxError" not in said and "NameError" not in said, said
