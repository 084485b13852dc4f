"""A statement and its parameters. What a person wrote reaches the engine as a parameter, never as part of the SQL."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from twintrack.errors import RequestError
from twintrack.event import Tenancy
from twintrack.store.schema import DATABASE

# Of one statement: whatever cohorts are made of, it stays small to write and within what the engine reads (262,144 bytes).
MOST_PARTS = 500
_MOST_TEXTS = 100_000
_MOST_BYTES = 250_000


class Statement(NamedTuple):
    """SQL with `{name:Type}` in it, and the values of those names; `meanings` of each cohort that it asks about, by name."""

    sql: str
    parameters: Mapping[str, Any]
    meanings: Mapping[str, str] = {}


class Plan(NamedTuple):
    """How a question is answered: what to ask, and how the answers to that become one.

    Shape: `statements` by name; `shape` takes the rows of each by the same names; `reads` is the stretch of time,
    milliseconds since 1970, beyond which no event matters to the answer.
    """

    statements: Mapping[str, Statement]
    definition: str
    shape: Callable[[Mapping[str, list[Any]]], dict[str, Any]]
    source: str = "raw"
    reads: tuple[int, int] | None = None


class Parameters:
    """Collects the values of one statement; each method gives the text that stands for the value in the SQL."""

    def __init__(self, tenancy: Tenancy) -> None:
        self.values: dict[str, Any] = {"project": tenancy.project, "environment": tenancy.environment}
        self._parts = self._texts = 0
        self._meanings: dict[str, str] = {}

    def part(self) -> None:
        """Counts a condition, or a part of a cohort, wherever in the statement it stands.

        Raises: RequestError for one too many.
        """
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise _too_large(f"more than {MOST_PARTS} conditions, those of its cohorts among them")

    def cohort(self, name: str, meaning: str) -> None:
        """Notes a cohort that the statement asks about, for the answer to tell what it means."""
        self._meanings[name] = meaning

    def _add(self, value: Any, kind: str) -> str:
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{kind}}}"

    def text(self, value: str) -> str:
        return self._add(value, "String")

    def texts(self, values: list[str]) -> str:
        self._texts += len(values)
        if self._texts > _MOST_TEXTS:
            raise _too_large(f"more than {_MOST_TEXTS:,} values, those of its cohorts among them")
        return self._add(values, "Array(String)")

    def number(self, value: float) -> str:
        return self._add(value, "Float64")

    def numbers(self, values: list[float]) -> str:
        return self._add(values, "Array(Float64)")

    def whole(self, value: int) -> str:
        return self._add(value, "Int64")

    def large(self, value: int) -> str:
        """Of a whole number of up to 75 digits."""
        return self._add(value, "Int256")

    def day(self, value: str) -> str:
        """Of an ISO date."""
        return self._add(value, "Date32")

    def moment(self, milliseconds: int) -> str:
        """Of milliseconds since 1970: a DateTime64(3) in UTC."""
        return f"fromUnixTimestamp64Milli({self._add(milliseconds, 'Int64')}, 'UTC')"

    @property
    def tenancy(self) -> str:
        """The condition under which every table is read."""
        return "project = {project:String} AND environment = {environment:String}"

    def statement(self, sql: str) -> Statement:
        """Raises: RequestError for one that is longer than the engine reads."""
        if len(sql.encode()) > _MOST_BYTES:
            raise _too_large(f"more than {_MOST_BYTES:,} bytes of SQL, that of its cohorts among it")
        return Statement(sql, dict(self.values), dict(self._meanings))


def _too_large(what: str) -> RequestError:
    return RequestError(
        f"the question holds {what}",
        hint="name fewer cohorts, or make them of fewer parts; put values that are compared with one property into one `in`",
        code="too_large",
    )


def table(name: str) -> str:
    return f"{DATABASE}.{name}"


def named(identifier: str) -> str:
    """An identifier as the engine reads it whatever letters it has."""
    return "`" + identifier.replace("\\", "\\\\").replace("`", "\\`") + "`"
