"""One store with the shop's events and one with generated ones, each filled once and asked many times."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.query.oracle.crowd import NOW, crowd
from tests.query.oracle.rows import ecom, generated
from tests.query.stage import Stage, staged

GENERATED_NOW = datetime(2024, 11, 3, 10, 17, 30, tzinfo=UTC)
SHOP_NOW = datetime(2024, 6, 29, 12, 0, tzinfo=UTC)


class Asked:
    """A store, the rows in it, and what time it is there. Not a tuple: hypothesis shows what it passes."""

    def __init__(self, stage: Stage, rows: list[dict[str, Any]], now: datetime) -> None:
        self.stage, self.rows, self.now = stage, rows, now


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    rows = generated()
    with staged(tmp_path_factory.mktemp("generated") / "store", GENERATED_NOW, rows) as stage:
        yield Asked(stage, rows, GENERATED_NOW)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    rows = ecom()
    with staged(tmp_path_factory.mktemp("shop") / "store", SHOP_NOW, rows) as stage:
        yield Asked(stage, rows, SHOP_NOW)


@pytest.fixture(scope="session")
def many_people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    rows = crowd()
    with staged(tmp_path_factory.mktemp("crowd") / "store", NOW, rows) as stage:
        yield Asked(stage, rows, NOW)
