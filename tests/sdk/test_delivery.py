"""One seed of each case: nothing is lost, nothing is doubled, and the fault did strike. `make bench-sdk` runs a hundred."""

import pytest

from tests.sdk.cases import CASES
from tests.sdk.script import GRACE_MS
from tests.sdk.seeds import Bench


@pytest.mark.parametrize("case", CASES)
def test_delivery_under_a_fault_stores_each_event_once(bench: Bench, case: str) -> None:
    line = bench.run(case, 1)
    print(line.text())
    assert line.proof and line.eligible and not line.broken and not line.doubled, line.text()
    # Where the machine needs longer than that to its disk, an event 50 ms old is not there yet.
    assert line.lost == 0 or line.disk_ms > GRACE_MS, line.text()


def test_rows_after_all_faults_are_not_doubled_later(bench: Bench) -> None:
    assert bench.rows is not None
    assert bench.rows.doubled() == {}
