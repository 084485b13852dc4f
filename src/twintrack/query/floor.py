"""The k-anonymity floor of a question: what is told of fewer people than it is withheld, here and nowhere else. Pure.

Numbers become null, and with them what is made of them; groups by their label join the rest; lines of a list are left out.
Events of nobody belong to at most one person more, who may be one of those counted: they add nobody.
"""

from typing import Any

from twintrack.query.scope import refused


class Floor:
    """Shape: `least` people stand behind whatever is told, 0 and 1 withhold nothing; `withheld` counts what was."""

    def __init__(self, least: int) -> None:
        self.least, self.withheld = least, 0

    def number(self, value: Any, people: int) -> Any:
        """The number, or None where it is of too few. That nobody did something is told: a 0 of no people."""
        return value if value is None or (not value and not people) or self.lets(people) else None

    def lets(self, people: int) -> bool:
        """Whether a line of a list may be told, counted where it may not."""
        enough = people >= self.least or self.least <= 1
        self.withheld += not enough
        return enough

    def said(self) -> dict[str, int]:
        """What the answer says of it."""
        return {"withheld": self.withheld} if self.least else {}


def having(least: int, people: str) -> str:
    """The end of a SELECT that groups: only groups of enough people, of which `people` is the expression."""
    return f" HAVING {people} >= {least}" if least > 1 else ""


def check_no_floor(least: int) -> None:
    """Raises: RequestError: for answers that tell of single people."""
    if least > 1:
        raise refused(
            "an answer of single people or events keeps no floor", "leave `floor` out, or ask for numbers", "bad_floor"
        )
