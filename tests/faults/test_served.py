"""A served process and its folder: imported again behind the window, and asked for by a second process."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx

from tests.e2e.conftest import start
from tests.faults.test_kill import Sender, assert_each_once
from tests.faults.test_wire import events
from twintrack.sample import ECOM

ROWS = 31_106  # of the e-commerce file; the last one is years older than any window


def fates(data: Path, outcome: str) -> dict[str, int]:
    """Events of an outcome by reason, in the ledger of a service that has ended."""
    with sqlite3.connect(f"file:{data / 'spool' / 'ledger.db'}?mode=ro", uri=True) as ledger:
        return dict(ledger.execute("SELECT reason, sum(events) FROM tallies WHERE outcome = ? GROUP BY 1", (outcome,)))


def test_e_commerce_file_imported_again_past_the_window_is_looked_up_row_by_row(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for said in (f"{ROWS} new, 0 already there", f"0 new, {ROWS} already there"):
        running = start(data, TWINTRACK_ID_WINDOW_DAYS="1")
        try:
            assert said in running.command("import", str(ECOM))
            assert '"ok": true' in running.command("doctor", "--json")
            counted = running.command("query", "SELECT count(), uniqExact(event_id) FROM events", "--format", "csv")
            assert counted.split()[-1] == f"{ROWS},{ROWS}"
        finally:
            assert running.stop() == 0
    assert fates(data, "stored") == {"": ROWS}
    # Some may still be known where the index was not swept in between; the rest is asked of the store.
    duplicates = fates(data, "duplicate")
    assert sum(duplicates.values()) == ROWS and duplicates["found_in_store"] > 0


def test_second_process_on_a_folder_ends_with_a_clear_message_and_harms_nothing(tmp_path: Path) -> None:
    first, sender = start(tmp_path / "data"), Sender(1)
    try:
        key = first.command("keys", "create", "--role", "write").strip()
        words = [sys.executable, "-m", "twintrack", "serve", "--port", "0", "--data", str(first.data)]
        second = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while second.poll() is None:  # it waits a while for one that is about to end
            batch = events(1)
            answer = httpx.post(f"{first.address}/api/analytics/events", json=batch, headers={"X-Write-Key": key})
            assert answer.status_code == 200 and answer.json()["accepted"] == 1
            sender.sent |= {str(event["event_id"]) for event in batch}
        out, said = second.communicate()
        assert second.returncode == 3 and out == ""
        assert said.startswith(f"error: another twintrack uses {first.data}") and "--data" in said
        assert "Traceback" not in said
        sender.acknowledged |= sender.sent
        assert_each_once(first, sender)  # also its control socket is still there
    finally:
        assert first.stop() == 0
