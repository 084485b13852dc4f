"""Embedded chDB: the same client over a folder of ours. One process owns the folder; the data folder's lock sees to it."""

from pathlib import Path

from twintrack.store.clickhouse import ClickHouse


def open_embedded(url: str) -> ClickHouse:
    """The store in the folder of `chdb:///path`, made where it is missing."""
    folder = Path(url.removeprefix("chdb://"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return ClickHouse(f"chdb://{folder}", "chdb")


def open_store(url: str) -> ClickHouse:
    """The store that `TWINTRACK_STORE` names."""
    return open_embedded(url) if url.startswith("chdb://") else ClickHouse(url, "clickhouse")
