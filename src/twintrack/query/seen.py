"""Properties that no event has: a question about one is refused with a hint, where that is cheap to know.

A name that was seen once is known from then on. Of another one event is looked for, in the whole of the project's history;
where there is none, or none is found within a moment, that costs the asker of a wrong name that moment and nobody else.
"""

import difflib
from collections.abc import Iterator
from typing import Any

from twintrack.errors import StoreError, StoreUnavailable
from twintrack.query.catalog import METADATA, property_of
from twintrack.query.compile.statement import Parameters, table
from twintrack.query.execute import Executor
from twintrack.query.question import Question
from twintrack.query.scope import Scope, refused

_BOUNDS = {"max_execution_time": 2.0}  # a moment
_ROWS_FOR_A_HINT = 50_000
_MOST_KNOWN = 10_000
# Where a question names a property, whatever its kind.
_PLACES = frozenset({"property", "breakdown", "by"})


class Seen:
    """Shape: at most `_MOST_KNOWN` names are kept, of all projects."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._known: set[tuple[str, str, str, bool]] = set()

    async def check(self, question: Question, scope: Scope, asker: str) -> None:
        """Raises: RequestError for a property of metadata that no event of the project and environment has."""
        if scope.first_milliseconds is None:
            return  # before the first event every name is one that may come
        for name, whole in dict.fromkeys(_named(question.model_dump())):
            place = (*scope.tenancy, name, whole)
            if place in self._known:
                continue
            found = await self._may_have(name, whole, scope, asker)
            if found is None:
                continue
            if not found:
                raise refused(
                    f"no event of this project and environment has the property {name[:60]!r}",
                    await self._hint(name, scope, asker),
                    "unknown_property",
                )
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known.add(place)

    async def _may_have(self, name: str, whole: bool, scope: Scope, asker: str) -> bool | None:
        """Also true where a moment was too short to tell: that is no reason to refuse a question. None where the store is
        away. Of an object, which has no value, one can only ask whether it is set: `whole`."""
        p = Parameters(scope.tenancy)
        of = property_of(name, scope, only_whether_set=True)
        found = of.is_set if whole else f"isNotNull({of.raw})"
        sql = f"SELECT 1 FROM {table('events')} WHERE {p.tenancy} AND {found} LIMIT 1"
        try:
            return bool((await self._executor.run(sql, p.values, asker, _BOUNDS))["rows"])
        except StoreUnavailable:
            return None
        except StoreError:
            return True

    async def _hint(self, name: str, scope: Scope, asker: str) -> str:
        p = Parameters(scope.tenancy)
        some = f"SELECT event_metadata FROM {table('events')} WHERE {p.tenancy} LIMIT {_ROWS_FOR_A_HINT}"
        near: list[str] = []
        try:
            sql = f"SELECT distinctJSONPaths(event_metadata) FROM ({some})"
            near = _near(name, (await self._executor.run(sql, p.values, asker, _BOUNDS))["rows"][0][0])
        except StoreError:
            pass
        said = f"near: {', '.join(near)}; " if near else ""
        return f"{said}POST /api/analytics/query/properties lists them"


def _named(part: Any) -> Iterator[tuple[str, bool]]:
    """The properties of metadata that a question names, and whether it asks of one only whether it is set."""
    if isinstance(part, list):
        for one in part:
            yield from _named(one)
    elif isinstance(part, dict):
        whole = part.get("operator") in ("is set", "is not set")
        for key, inner in part.items():
            if key in _PLACES:
                names = [inner] if isinstance(inner, str) else inner or ()
                yield from ((name, whole) for name in names if name.startswith(METADATA))
            else:
                yield from _named(inner)


def _near(name: str, paths: list[str]) -> list[str]:
    asked = name.removeprefix(METADATA)
    below = [path for path in paths if path.startswith(asked + ".")]
    near = [path for path in difflib.get_close_matches(asked, paths) if path not in below]
    return [METADATA + path for path in (*below, *near)][:3]
