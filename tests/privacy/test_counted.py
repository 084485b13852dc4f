"""Rows of a file are known when it has passed by, however it was cut into pieces."""

import io

import pyarrow
import pyarrow.parquet
import pytest

from twintrack.privacy.counted import Counted

CSV = b'"name","text"\n"a","one\ntwo ""quoted""\n"\n"b",""\n"c","\n\n"\n'
LINES = b'{"name":"a\\n"}\n{"name":"b"}\n'


def parquet(rows: int) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"n": list(range(rows))}), sink, row_group_size=1_000)
    return sink.getvalue()


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize(
    "output,file,rows", [("csv", CSV, 3), ("json", LINES, 2), ("parquet", parquet(5_000), 5_000), ("csv", CSV[:14], 0)]
)
def test_rows_are_counted_whatever_the_pieces(output: str, file: bytes, rows: int, size: int) -> None:
    counted = Counted(output)
    for start in range(0, len(file), size):
        counted.take(file[start : start + size])
    assert counted.rows == rows


def test_parquet_larger_than_what_is_kept_of_it_is_counted_by_its_end() -> None:
    counted, file = Counted("parquet"), parquet(5_000)
    for piece in (*(bytes(1 << 20) for _ in range(20)), file):
        counted.take(piece)
    assert counted.rows == 5_000


@pytest.mark.parametrize("file", [b"", b"PAR1", parquet(10)[:-3]])
def test_parquet_that_was_cut_has_no_known_rows(file: bytes) -> None:
    counted = Counted("parquet")
    counted.take(file)
    assert counted.rows is None
