"""The words that foreign SQL may be made of, from `functions.toml`: functions, types, keywords. A closed list.

Judged is the statement as it is written anew, where each name of the asker is quoted: a word that stands there bare is
the engine's own, and it is on the list or the statement is refused. So an unknown function, a clause that the parser
takes for something else, and `current_user` (a call without parentheses) all fail alike.
"""

import tomllib
from pathlib import Path

import sqlglot
from sqlglot import TokenType

from twintrack.errors import RequestError

_DATA: dict[str, dict[str, str]] = tomllib.loads((Path(__file__).parent / "functions.toml").read_text())


def _words(*groups: str) -> list[str]:
    return [word for group in groups for text in _DATA[group].values() for word in text.split()]


AGGREGATES, COMBINATORS = _words("aggregates"), _words("combinators")
FUNCTIONS = _words("functions", "windows")
_AGGREGATES = {name.lower() for name in AGGREGATES}
_COMBINATORS = tuple(name.lower() for name in COMBINATORS)
_CALLED = _AGGREGATES | {name.lower() for name in FUNCTIONS}
_TYPES = {name.lower() for name in _words("types")}
_BARE = {name.lower() for name in _words("words")} | _TYPES
NEVER = frozenset(name.lower() for name in _words("never"))
# These stand before a parenthesis and are no functions.
_BEFORE_PARENTHESIS = _BARE
_NAMES = (TokenType.IDENTIFIER,)
_VALUES = (TokenType.STRING, TokenType.NUMBER)


def refused(message: str, hint: str) -> RequestError:
    return RequestError(message, hint=hint, code="sql_refused")


def may_be_called(name: str) -> bool:
    """Whether a function is on the list, by itself or as an aggregate with combinators. In any case of letters."""
    name = name.lower()
    if name in _CALLED:
        return True
    for _ in range(3):
        ending = next((c for c in _COMBINATORS if name.endswith(c) and len(name) > len(c)), None)
        if ending is None:
            return False
        name = name[: -len(ending)]
        if name in _AGGREGATES:
            return True
    return False


def is_type(text: str) -> bool:
    """Whether a type is made of known ones alone; never the state of an aggregate."""
    try:
        tokens = sqlglot.tokenize(text, read="clickhouse")
    except sqlglot.errors.SqlglotError:
        return False
    marks = (TokenType.L_PAREN, TokenType.R_PAREN, TokenType.COMMA, TokenType.EQ, *_VALUES)
    return all(t.token_type in marks or t.text.lower() in _TYPES for t in tokens)


def check_words(written: str) -> None:
    """Shape: `written` is a statement as our own generator wrote it, all identifiers quoted, no comments.

    Raises: RequestError that names the first word which is not on the list.
    """
    tokens = sqlglot.tokenize(written, read="clickhouse")
    for place, token in enumerate(tokens):
        following = tokens[place + 1].token_type if place + 1 < len(tokens) else None
        calls = following == TokenType.L_PAREN
        if token.token_type in _NAMES:
            if calls:
                raise refused("a quoted name cannot be called", "write functions without quotes")
        elif token.token_type == TokenType.PARAMETER:
            raise refused("variables of the server cannot be read", "leave @@ out")
        elif token.token_type not in _VALUES and token.text[:1].isalpha() and not _named(tokens, place):
            for word in token.text.split():
                _check_word(word, calls=calls)


def _named(tokens: list[sqlglot.Token], place: int) -> bool:
    """Whether the word is the name of a parameter: `{name: Type}`."""
    return (
        0 < place < len(tokens) - 1
        and tokens[place - 1].token_type == TokenType.L_BRACE
        and tokens[place + 1].token_type == TokenType.COLON
    )


def _check_word(word: str, *, calls: bool) -> None:
    if calls and may_be_called(word):
        return
    if word.lower() in _BARE:
        return
    if calls:
        raise refused(f"the function {word[:60]} is not on the list", "docs/reference/sql.md lists what may be called")
    raise refused(
        f"the word {word[:60]} is not part of a question", "one SELECT, as docs/reference/sql.md has it; quote names"
    )
