"""What the rest of Twintrack may ask of the engine. `store/clickhouse.py` and `store/embedded.py` are its only drivers."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Answer(NamedTuple):
    """Columns as (name, type), rows as tuples in column order."""

    columns: list[tuple[str, str]]
    rows: Sequence[Sequence[Any]]
    rows_read: int


class Store(Protocol):
    engine: str  # "chdb" or "clickhouse"

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

    def export(
        self,
        sql: str,
        output_format: str,
        settings: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The answer as the engine formats it (CSVWithNames, JSON, Parquet)."""
        ...

    def pieces(
        self,
        sql: str,
        output_format: str,
        settings: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Generator[bytes, None, None]:
        """The same in pieces, so that a long answer is never whole in memory here. An answer that breaks off raises."""
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

    def cancel(self) -> None:
        """Ends every read that runs; each fails with StoreUnavailable. Inserts are not touched."""
        ...

    def close(self) -> None: ...
