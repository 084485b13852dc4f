"""Why something waits on its way to the store, and what a person can do."""

from typing import NamedTuple

from twintrack.errors import StoreError


class Trouble(NamedTuple):
    message: str
    hint: str

    @classmethod
    def of(cls, error: StoreError, what: str = "") -> "Trouble":
        """The engine's own words about a question may quote rows, and everybody reads this: only its code and name."""
        if error.code == "query_failed":
            return cls(f"{what}the store answered {error.reason}", "its query log has the words")
        return cls(what + error.message, error.hint)


class Troubles:
    """By what waits: the store, an aside, the spool, a chunk. Changed by the loader's thread, read by any."""

    def __init__(self) -> None:
        self._found: dict[str, Trouble] = {}

    def note(self, what: str, trouble: Trouble) -> None:
        self._found[what] = trouble

    def note_first(self, what: str, trouble: Trouble) -> None:
        """It is the one that is told."""
        self._found = {what: trouble} | {k: v for k, v in self._found.items() if k != what}

    def mended(self, what: str) -> None:
        self._found.pop(what, None)

    def first(self) -> Trouble:
        """Empty where nothing waits."""
        return next(iter(list(self._found.values())), Trouble("", ""))
