"""What the audit log keeps of a statement: its words and signs, no value and no name that somebody had to quote."""

import re

from sqlglot.dialects.clickhouse import ClickHouse
from sqlglot.errors import SqlglotError

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SIGNS = re.compile(r"[-+*/%=<>!~|&^.,;:?@()\[\]{}]+")
_MOST_CHARACTERS = 4_000
UNREADABLE = "?"


def shape(sql: str) -> str:
    """The statement with `?` for every literal, number and quoted name; comments are left out.

    Works on statements that are refused too. Shape: at most 4,000 characters; `?` alone where it is no SQL.
    """
    try:
        tokens = ClickHouse.Tokenizer(dialect="clickhouse").tokenize(sql[:50_000])
    except (SqlglotError, ValueError, RecursionError):
        return UNREADABLE
    words = [sql[token.start : token.end + 1] for token in tokens]
    if any("@" in word and _SIGNS.fullmatch(word) for word in words):
        return UNREADABLE  # an address without quotes; no statement that we run has this sign
    return " ".join(w if _WORD.fullmatch(w) or _SIGNS.fullmatch(w) else UNREADABLE for w in words)[:_MOST_CHARACTERS]
