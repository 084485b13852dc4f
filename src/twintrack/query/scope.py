"""In whose name and at what time a question is asked: all that a plan depends on beside the question itself."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from twintrack.auth import Role
from twintrack.errors import RequestError
from twintrack.event import Tenancy
from twintrack.query.compile.statement import Parameters

# Gives the condition that `person` is of a cohort; its values go into the parameters of the statement it joins.
CohortOf = Callable[["Scope", Parameters], str]


class Scope(NamedTuple):
    """Shape: instants are milliseconds since 1970; `first_milliseconds` is the hour of the project's first event.

    `complete_milliseconds` is from when on raw has every event: before that some expired, and live on in the rollups alone.
    `zone` is that of instants in filters which name none.
    """

    tenancy: Tenancy
    role: Role
    now_milliseconds: int
    first_milliseconds: int | None = None
    cohorts: Mapping[str, CohortOf] = {}
    complete_milliseconds: int = 0
    sealed: frozenset[str] = frozenset()  # fields that the store has as tokens, each one another
    zone: str = "UTC"
    forms: Callable[[str], list[str]] | None = None

    def stored(self, identifiers: list[str]) -> list[str]:
        """Every form in which rows may hold identifiers that were typed as they were sent; none of nothing.

        For roles without `forms`, which may not learn whose pseudonym is whose, what was typed alone.
        """
        if self.forms is None:
            return identifiers
        return [form for one in identifiers for form in (self.forms(one) if one else [one])]


def refused(message: str, hint: str, code: str = "bad_question") -> RequestError:
    """What every question that cannot be answered raises: what is wrong, and what to ask instead."""
    return RequestError(message, hint=hint, code=code)
