"""What the rest of Twintrack may ask of the engine. `store/clickhouse.py` and `store/embedded.py` are its only drivers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Answer(NamedTuple):
    """Columns as (name, type), rows as tuples in column order."""

    columns: list[tuple[str, str]]
    rows: Sequence[Sequence[Any]]
    rows_read: int


class Store(Protocol):
    engine: str  # "chdb" or "clickhouse"
    spills: bool  # whether what a question gathers may go by the disk

    def insert(
        self, table: str, chunk_id: str, rows: bytes, token: str, computed: Mapping[str, str] | None = None
    ) -> None:
        """Inserts the rows of a chunk, at most once for each token, into the table and its rollups.

        Shape: `rows` are JSONCompactEachRow lines in column order, without the chunk; `computed` are columns that they
        do not carry, each with an expression over those that they do.

        Raises: StoreUnavailable and its kinds (retry with the same token), StoreRefusedData (never as it is).
        """
        ...

    def select(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Answer:
        """Runs one read.

        Raises: StoreError with the engine's own words; StoreUnavailable.
        """
        ...

    def blocks(
        self,
        sql: str,
        output_format: str,
        parameters: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Iterator[bytes]:
        """The answer as the engine formats it (CSVWithNames, Parquet), in pieces as they come; a failure raises, also after
        some pieces."""
        ...

    def stream(self, sql: str) -> Iterator[Sequence[Any]]:
        """Rows of a long read, block by block."""
        ...

    def command(self, sql: str) -> None:
        """Runs one statement that changes the schema."""
        ...

    def probe(self) -> None:
        """Returns when the engine answers a question of nothing.

        Raises: StoreError.
        """
        ...

    def version(self, months: Sequence[int]) -> str:
        """Another text after anything changed in what questions read; of events only in these months (202601), all of
        them where none is named. Empty where that cannot be told.

        Raises: StoreError.
        """
        ...

    def end(self, mark: str) -> None:
        """Ends the reads whose setting `log_comment` is this mark; each fails with StoreUnavailable or StoreError.

        Raises: StoreError.
        """
        ...

    def cancel(self) -> None:
        """Ends every read that runs; each fails with StoreUnavailable. Inserts are not touched."""
        ...

    def close(self) -> None: ...
