"""One service, one browser and one proxy for all tests of this folder."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import sync_playwright

from tests.e2e.conftest import Running, start
from tests.sdk.seeds import Bench, service_of
from tests.sdk.subject import SDK, TWINTRACK


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start(tmp_path_factory.mktemp("sdk") / "data")
    yield running
    running.stop()


@pytest.fixture(scope="package")
def bench(running: Running) -> Iterator[Bench]:
    assert SDK.exists(), "the SDK is not built: run `npm run build -w @twintrack/browser`"
    with sync_playwright() as playwright:
        bench = Bench(playwright, TWINTRACK, service_of(running))
        yield bench
        bench.close()
