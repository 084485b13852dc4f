"""One seed of each case: nothing is lost, nothing is doubled, and the fault did strike. `make bench-sdk` runs a hundred."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import sync_playwright

from tests.e2e.conftest import start
from tests.sdk.cases import CASES
from tests.sdk.seeds import Bench, service_of
from tests.sdk.subject import SDK, TWINTRACK


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    assert SDK.exists(), "the SDK is not built: run `npm run build -w @twintrack/browser`"
    running = start(tmp_path_factory.mktemp("sdk") / "data")
    with sync_playwright() as playwright:
        bench = Bench(playwright, TWINTRACK, service_of(running))
        yield bench
        bench.close()
    running.stop()


@pytest.mark.parametrize("case", CASES)
def test_delivery_under_a_fault_stores_each_event_once(bench: Bench, case: str) -> None:
    line = bench.run(case, 1)
    print(line.text())
    assert line.passed, line.text()


def test_rows_after_all_faults_are_not_doubled_later(bench: Bench) -> None:
    assert bench.rows is not None
    assert bench.rows.doubled() == {}
