"""An engine with one fault gives answers that the oracle does not: no check here is blind."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.query import test_lists, test_trends
from tests.query.conftest import Asked
from tests.query.mutated import Mutant, kinds_with

# The questions of each kind that reach all of its parts, and what judges an answer to one.
CHECKS: dict[str, tuple[list[dict[str, Any]], Callable[..., None]]] = {
    "trends": (test_trends.CASES, test_trends.check),
    "sessions": (test_lists.SESSIONS, test_lists.check_sessions),
    "users": (test_lists.USERS, test_lists.check_users),
    "events": (test_lists.EVENTS, test_lists.check_events),
    "properties": (test_lists.PROPERTIES, test_lists.check_properties),
    "actors": (test_lists.ACTORS, test_lists.check_actors),
}
MUTANTS = [
    Mutant("trends", "compile/trends.py", "{place} + {span.lead + 1}", "{place} + {span.lead + 2}"),
    Mutant("trends", "compile/trends.py", "if(bucket >= 0", "if(bucket > 0"),
    Mutant("trends", "compile/trends.py", 'uniqExact", "", f"person, in_{n}', 'uniqExact", "", f"session_id, in_{n}'),
    Mutant("trends", "compile/trends.py", "notEmpty(of_{n}) AND ", ""),
    Mutant(
        "trends",
        "compile/trends.py",
        "arrayCompact(arraySort(groupArrayIf(bucket, in_{n})))",
        "groupArrayIf(bucket, in_{n})",
    ),
    Mutant(
        "trends", "compile/trends.py", "arrayDistinct(arrayFlatten(arrayMap(bucket", "(arrayFlatten(arrayMap(bucket"
    ),
    Mutant("trends", "compile/trends.py", "code % {_MOST_SERIES} = {n}", "code % {_MOST_SERIES} >= {n}"),
    Mutant("trends", "compile/trends.py", "DESC NULLS LAST", "ASC NULLS LAST"),
    Mutant("trends", "compile/trends.py", "{count[2]} AND person != ''", "{count[2]}"),
    Mutant("trends", "compile/trends.py", "bool(self.lead) and", "False and"),
    Mutant("trends", "compile/trends.py", "(bucket + (bucket < 0))", "bucket"),
    Mutant("trends", "beside.py", "len(edges) - 1)", "len(edges))"),
    Mutant("trends", "beside.py", 'unit == "month" and (edges[0], edges[-1]) == (of.start, of.end)', 'unit == "month"'),
    Mutant("trends", "beside.py", "or time != other_time", ""),
    Mutant("trends", "beside.py", "unit in _BY_CLOCK or time", "time"),
    Mutant("trends", "beside.py", "(other_day - day).days", "(other_day - day).days + 1"),
    Mutant("trends", "beside.py", '"year": "addYears"', '"year": "addDays"'),
    Mutant("trends", "filters.py", "tzinfo=ZoneInfo(zone)", 'tzinfo=ZoneInfo("UTC")'),
    Mutant("trends", "compile/trends.py", "(0.5)", "(0.75)"),
    Mutant(
        "trends", "period.py", "{moment} < {p.moment(self.end)}", "{moment} <= {p.moment(self.end)} + INTERVAL 1 DAY"
    ),
    Mutant("trends", "period.py", 'f"toDate({moment}, {p.text(zone)})"', "f\"toDate({moment}, {p.text('UTC')})\""),
    Mutant(
        "trends", "period.py", "day - timedelta(days=day.weekday())", "day - timedelta(days=(day.weekday() + 1) % 7)"
    ),
    Mutant("trends", "period.py", "start > now or", ""),
    Mutant("trends", "source.py", "(first_linked_at, user_id)) AS", "(user_id, first_linked_at)) AS"),
    Mutant("trends", "source.py", "if(linked != '', linked, anonymous_id) AS", "anonymous_id AS"),
    Mutant("trends", "source.py", "argMin(user_id", "argMax(user_id"),
    Mutant("trends", "compile/statement.py", "project = {project:String} AND environment", "environment"),
    Mutant("trends", "compile/statement.py", " AND environment = {environment:String}", ""),
    Mutant("sessions", "compile/sessions.py", "countIf(events = 1)", "countIf(events <= 2)"),
    Mutant("sessions", "compile/sessions.py", "min(event_timestamp) AS began", "max(event_timestamp) AS began"),
    Mutant("sessions", "compile/sessions.py", "argMax(told, place)", "argMin(told, place)"),
    Mutant("sessions", "compile/sessions.py", "quantileExactInclusive(0.5)", "avg"),
    Mutant("users", "compile/users.py", "HAVING (last, person) <", "HAVING (last, person) <="),
    Mutant("users", "compile/users.py", "positionCaseInsensitiveUTF8(person", "positionUTF8(person"),
    Mutant("users", "compile/users.py", "countIf(user_id != '') > 0", "countIf(user_id = '') > 0"),
    Mutant("users", "compile/users.py", "uniqExactIf(session_id, session_id != '') AS", "uniqExact(session_id) AS"),
    Mutant("events", "compile/events.py", "toString(event_id) < {", "toString(event_id) <= {"),
    Mutant("events", "compile/events.py", "ORDER BY place_moment DESC", "ORDER BY place_moment ASC"),
    Mutant("events", "compile/events.py", "(event_timestamp < {", "(event_timestamp <= {"),
    Mutant("properties", "compile/properties.py", "positionCaseInsensitiveUTF8", "positionUTF8"),
    Mutant("properties", "compile/properties.py", "ORDER BY events DESC", "ORDER BY events ASC"),
    Mutant("properties", "compile/properties.py", '"Int64": "number", "UInt64"', '"Int64": "text", "UInt64"'),
    Mutant("actors", "compile/actors.py", "person > {", "person >= {"),
    Mutant("actors", "compile/trends.py", "BETWEEN {least} AND {point.step}", "BETWEEN {least} AND {point.step} + 1"),
    Mutant("actors", "compile/trends.py", '[f"in_{number}", ', '["true", '),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.file}: {m.old[:40]}")
def test_answer_of_a_mutant_is_not_the_oracles(made: Asked, mutant: Mutant) -> None:
    kinds = kinds_with(mutant)
    cases, check = CHECKS[mutant.kind]

    def survives(case: dict[str, Any]) -> bool:
        try:
            check(made, case, kinds)
        except AssertionError:
            return False
        return True

    assert not all(survives(case) for case in cases)


def test_room_without_a_fault_passes_and_is_left_as_it_was(made: Asked) -> None:
    from twintrack.query.kinds import KINDS

    same = kinds_with(Mutant("trends", "kinds.py", '"trends": Trends', '"trends":  Trends'))
    assert same["trends"] is not KINDS["trends"]
    for cases, check in CHECKS.values():
        check(made, cases[0], same)


def test_each_kind_has_three_mutants_of_its_own() -> None:
    for kind in CHECKS:
        assert sum(m.kind == kind for m in MUTANTS) >= 3, kind
