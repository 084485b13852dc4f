"""Personal data and secrets in strings: found by rules that are data, masked by actions that are chosen.

Reading order: rules.toml, rules.py, fold.py, engine.py; then the judges of candidates: numbers, address, phone, secret.
"""

from functools import cache
from pathlib import Path

from twintrack.pii.engine import Finding, Masked, Masker, pseudonym
from twintrack.pii.rules import Action, built_in, load

__all__ = ["Action", "Finding", "Masked", "Masker", "Maskers", "default", "pseudonym"]


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
