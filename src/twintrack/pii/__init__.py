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

    def __init__(self, path: Path | None) -> None:
        self._by_environment = {name: Masker(rules) for name, rules in load(path).items()} if path else {"": default()}

    def of(self, environment: str) -> Masker:
        return self._by_environment.get(environment) or self._by_environment[""]
