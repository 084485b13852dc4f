"""A sync of the ledger fails and the process is killed at once: the failed commit must not come back without its files."""

import os
import subprocess
import sys
from pathlib import Path

from tests.spool.kit import opened, rows_of

ROOT = Path(__file__).parents[2]
_FREEZES = """
import os, signal, sys
from pathlib import Path
from contextlib import suppress
from tests.spool.kit import fresh, opened, send
spool = opened(Path(sys.argv[1]))
assert send(spool, fresh(count=3)) == [True] * 3
with suppress(Exception):
    spool.freeze()
os.kill(os.getpid(), signal.SIGKILL)
"""


def freeze(folder: Path, *inject: str) -> int:
    """Accepts three events, freezes them and is killed, under strace; how many syncs of the ledger's log there were."""
    trace = folder.with_suffix(".trace")
    wal = folder / "ledger.db-wal"
    words = ["strace", "-f", "-o", str(trace), "-P", str(wal), "-e", "trace=fdatasync,fsync", *inject]
    subprocess.run(
        [*words, sys.executable, "-c", _FREEZES, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        check=False,
        capture_output=True,
    )
    return trace.read_text().count("sync(")


def test_commit_whose_sync_failed_does_not_come_back_without_its_chunks(tmp_path: Path) -> None:
    syncs = freeze(tmp_path / "whole")
    folder = tmp_path / "failed"
    freeze(folder, "-e", f"inject=fdatasync:error=EIO:when={syncs}")
    assert "INJECTED" in folder.with_suffix(".trace").read_text()
    spool = opened(folder)
    assert not spool.unreadable()
    assert len(rows_of(spool)) == 3
    spool.close()
