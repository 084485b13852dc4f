"""What is kept of a statement holds none of its values, however they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twintrack.privacy.shape import shape

MARK = "zQ9marker"


@pytest.mark.parametrize(
    "sql,kept",
    [
        ("SELECT count() FROM events WHERE user_id = 'ann'", "SELECT count ( ) FROM events WHERE user_id = ?"),
        ("SELECT 1.5e3 -- why\n FROM events /* who */ LIMIT 10", "SELECT ? FROM events LIMIT ?"),
        ("SELECT {name:String}", "SELECT { name : String }"),
        ('SELECT `my column`, "other" FROM events; DROP TABLE x', "SELECT ? , ? FROM events ; DROP TABLE x"),
        ("SELECT 'not ended", "?"),
        ("SELECT john@example.com", "?"),
    ],
)
def test_statement_keeps_its_words_and_loses_its_values(sql: str, kept: str) -> None:
    assert shape(sql) == kept


@pytest.mark.parametrize(
    "form",
    [
        "SELECT '{}'", "SELECT \"{}\"", "SELECT `{}`", "SELECT $${}$$", "SELECT $a${}$a$", "SELECT 'a''{}'",
        "SELECT 'a\\'{}'",
        "SELECT 1 -- {}", "SELECT 1 # {}", "SELECT /* {} */ 1", "SHOW TABLES LIKE '{}'", "INSERT INTO t VALUES ('{}')",
        "'{}",
        "SELECT N'{}', E'{}', x'{}'", "SELECT 1{}", "SELECT {}@example.com", "SELECT '''{}'''",
    ],
)  # fmt: skip
def test_value_is_gone_however_it_is_quoted(form: str) -> None:
    assert MARK not in shape(form.replace("{}", MARK))


@given(st.text(max_size=40), st.sampled_from(["'", '"', "`"]))
def test_any_text_in_quotes_is_gone(text: str, quote: str) -> None:
    inner = MARK + text.replace("\\", "").replace(quote, "")
    assert MARK not in shape(f"SELECT {quote}{inner}{quote} FROM events")


@given(st.text(max_size=200))
def test_any_text_at_all_gives_a_short_shape(text: str) -> None:
    assert len(shape(text * 100)) <= 4_000
