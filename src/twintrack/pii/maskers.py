"""The masker of each environment, from one settings file."""

from functools import cache
from pathlib import Path

from twintrack.pii.engine import Masker
from twintrack.pii.rules import built_in, load


@cache
def default() -> Masker:
    """The built-in rules, each finding replaced by its typed token."""
    return Masker(built_in())


class Maskers:
    """The masker of each environment, from one settings file; without a file the built-in rules for all.

    Raises: SettingsError with every fault of the file.
    """

    def __init__(self, path: Path | None, *, on: bool = True) -> None:
        sets = load(path) if path else {}
        self._by_environment = {name: Masker(rules) for name, rules in sets.items()} or {"": default()}
        self._on = on

    def of(self, environment: str) -> Masker | None:
        """None where masking is switched off."""
        return self._by_environment.get(environment, self._by_environment[""]) if self._on else None

    def compile(self) -> None:
        """Builds every automaton now rather than at the first text."""
        for masker in self._by_environment.values():
            masker.suspicious(b"x")
            masker.find("x")
