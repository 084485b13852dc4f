"""Funnels, retention, life cycles, paths, threads and cohorts with one fault give answers that the oracles do not."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.query import (
    test_cohorts,
    test_earlier,
    test_funnel,
    test_lifecycle,
    test_paths,
    test_people_behind,
    test_retention,
    test_threads,
)
from tests.query.conftest import Asked
from tests.query.mutated import Mutant, kinds_with

_YEAR = {"from": "2024-02-20", "to": "2024-11-03"}
_SPRING = {"from": "2024-03-28", "to": "2024-04-02"}
_LATER = {"from": "2024-03-31", "to": "2024-11-03"}
_KATHMANDU, _TEHRAN = "Asia/Kathmandu", "Asia/Tehran"
_PLAN = "event_metadata.plan"
_PRO = {"property": _PLAN, "value": "pro"}
_STEPS = [{"event": "home"}, {"event": ["view", "home"]}, {"event": "view"}]

# The questions of each kind that reach all of its parts, and what judges an answer to one.
CHECKS: dict[str, tuple[list[dict[str, Any]], Callable[..., None]]] = {
    "funnel": (
        [
            {"range": _YEAR, "steps": _STEPS, "window_seconds": 30, "breakdown": [_PLAN], "top": 2},
            {"range": _SPRING, "steps": _STEPS, "zone": _KATHMANDU, "interval": "day"},
            {"range": _YEAR, "steps": _STEPS, "order": "strict", "per": "session"},
            {"range": _YEAR, "steps": _STEPS, "order": "any", "window_seconds": 600},
        ],
        test_funnel.check,
    ),
    "retention": (
        [
            {"range": _SPRING, "interval": "day", "periods": 4, "start": {}, "back": {}, "zone": _KATHMANDU},
            {
                "range": _YEAR,
                "interval": "month",
                "periods": 3,
                "start": {"event": "home"},
                "back": {"event": "view"},
                "entry": "recurring",
                "breakdown": [_PLAN],
                "top": 3,
            },
            {
                "range": _YEAR,
                "interval": "week",
                "periods": 4,
                "start": {},
                "back": {"event": "view"},
                "unbounded": True,
            },
            {"range": _YEAR, "interval": "week", "periods": 4, "start": {}, "back": {}, "entry": "recurring"},
            {"range": _LATER, "interval": "week", "periods": 2, "start": {"filter": _PRO}, "back": {}},
            {"range": _LATER, "interval": "week", "periods": 2, "start": {}, "back": {}, "filter": _PRO},
            {
                "range": {"from": "2024-02-17", "to": "2024-02-22"},
                "interval": "day",
                "periods": 3,
                "start": {},
                "back": {},
            },
        ],
        test_retention.check,
    ),
    "lifecycle": (
        [
            {"range": {"from": "2024-03-28", "to": "2024-04-09"}, "interval": "day", "zone": _TEHRAN},
            {"range": _YEAR, "interval": "month", "zone": _KATHMANDU},
            {"range": {"from": "2024-10-25", "to": "2024-11-03"}, "interval": "day"},
        ],
        test_lifecycle.check,
    ),
    "stickiness": (
        [{"range": _SPRING, "interval": "day", "zone": _KATHMANDU}, {"range": _YEAR, "interval": "month"}],
        test_lifecycle.check_stickiness,
    ),
    "paths": (
        [
            {"range": _YEAR, "from": "home", "steps": 3, "top": 3, "per": "person"},
            {"range": _YEAR, "to": "buy", "steps": 3, "top": 3},
        ],
        test_paths.check,
    ),
    "threads": (
        [
            {"range": _YEAR, "idle_seconds": 250 * 86_400},
            {"range": _YEAR, "idle_seconds": 3_600, "interval": "day", "zone": _KATHMANDU},
            {"range": {"from": "2024-03-23", "to": "2024-03-29"}},
        ],
        test_threads.check,
    ),
    "cohorts": (
        [
            {"did": {"event": "buy"}, "at_least": 2},
            {"has": {"property": _PLAN, "value": "pro"}},
            {"did": {}, "range": {"from": "2024-03-31", "to": "2024-03-31"}, "zone": _KATHMANDU},
            {"funnel": {"range": _YEAR, "steps": _STEPS, "window_seconds": 600}, "step": 2, "state": "dropped"},
            {"not": {"did": {"event": "buy"}}},
        ],
        test_cohorts.check,
    ),
    "people seen before": ([{}], test_earlier.check),
    "people of a funnel": ([test_people_behind.CASES[1][1]], test_people_behind.check_funnel),
    "people of a path": ([test_people_behind.CASES[7][1]], test_people_behind.check_paths),
}
_FUNNEL, _RETENTION, _LIFE = "compile/funnel.py", "compile/retention.py", "compile/lifecycle.py"
_PATHS, _THREADS, _ORDER = "compile/paths.py", "compile/threads.py", "compile/order.py"
_EARLIER = "compile/earlier.py"
MUTANTS = [
    Mutant("funnel", _FUNNEL, "{attempt}.1 <= {window}", "{attempt}.1 < {window}"),
    Mutant("funnel", _FUNNEL, "end=of.end + window + 1", "end=of.end"),
    Mutant("funnel", _FUNNEL, "tries[indexOf(depths, depth)]", "tries[-1]"),
    Mutant("funnel", _FUNNEL, "asked.interval, first, of.zone", 'asked.interval, first, "UTC"'),
    Mutant("funnel", _FUNNEL, "        if fill:", "        if not fill:"),
    Mutant("funnel", _ORDER, " + bitShiftLeft(toUInt256(sequence), 148)", ""),
    Mutant("funnel", _ORDER, "toUInt128(event_id)", "byteSwap(toUInt128(event_id))"),
    Mutant("funnel", _ORDER, "if(place <= {top}", "if(place < {top}"),
    Mutant("retention", _RETENTION, "begin.3 > begin.2", "begin.3 >= begin.2"),
    Mutant("retention", _RETENTION, "asked.interval, found[0].start, zone)", 'asked.interval, found[0].start, "UTC")'),
    Mutant("retention", _RETENTION, "if(has(again, cohort), [cohort], [])", "[cohort]"),
    Mutant("retention", _RETENTION, "if(earlier, [], arraySlice", "if(false, [], arraySlice"),
    Mutant(
        "retention", _RETENTION, "arrayFilter(b -> b > cohort, returns)", "arrayFilter(b -> b > cohort + 1, returns)"
    ),
    Mutant("retention", "period.py", "or end <= first", ""),
    Mutant("stickiness", "period.py", 'return "unfinished"', 'return "whole"'),
    Mutant("retention", _RETENTION, "argMinIf(keys", "argMaxIf(keys"),
    Mutant("retention", _RETENTION, "        rows += f", "        f"),
    Mutant("retention", _EARLIER, " or of.filter is not None or only is not None", ""),
    Mutant("retention", _EARLIER, "condition(of.filter, scope, p)]", '"true"]'),
    Mutant("retention", _EARLIER, "condition(only, scope, p), ", ""),
    Mutant("retention", _RETENTION, "{asked.periods}) + 1)", "{asked.periods}))"),
    Mutant("lifecycle", _LIFE, "asked.interval, before, asked.zone)", 'asked.interval, before, "UTC")'),
    Mutant("lifecycle", _LIFE, "before = b - 1", "before = b - 2"),
    Mutant("lifecycle", _LIFE, "b = first, {new}", "b = first + 1, {new}"),
    Mutant(
        "lifecycle",
        _LIFE,
        "found[0].start, asked.interval, asked.zone, -1)",
        "found[0].start, asked.interval, asked.zone, -2)",
    ),
    Mutant(
        "lifecycle",
        "period.py",
        "Period(0, self.start, self.zone)",
        "Period(0, self.start - 30 * 86_400_000, self.zone)",
    ),
    Mutant("lifecycle", _LIFE, "next != b + 1", "next != b + 2"),
    Mutant("lifecycle", _LIFE, "if(max(bucket < 0), -1, buckets[1])", "buckets[1]"),
    Mutant("stickiness", _LIFE, "arrayUniq(groupArray(toInt16(bucket))) AS n", "count() AS n"),
    Mutant("stickiness", _LIFE, "found[0].start, asked.zone)", 'found[0].start, "UTC")'),
    Mutant("stickiness", _LIFE, "sum(exactly[n:])", "sum(exactly[n + 1 :])"),
    Mutant("paths", _PATHS, "arrayCompact(arrayMap(place", "(arrayMap(place"),
    Mutant("paths", _PATHS, "length(kept) <= {asked.steps}", "length(kept) < {asked.steps}"),
    Mutant("paths", _PATHS, "arraySlice(names, 1, {at})", "arraySlice(names, 1, {at} + 1)"),
    Mutant("paths", _PATHS, "ORDER BY count() DESC, event_name)", "ORDER BY count() ASC, event_name)"),
    Mutant("threads", _THREADS, "[of.before(p), *kept]", "['false', *kept]"),
    Mutant("threads", _THREADS, "[of.since(p), *kept]", "[of.within(p), *kept]"),
    Mutant("threads", _THREADS, "groupArraySorted({asked.limit})((-began", "groupArraySorted({asked.limit})((began"),
    Mutant("threads", _THREADS, "questions >= 2", "questions > 2"),
    Mutant("threads", _THREADS, "turn.2 != before", "true"),
    Mutant("threads", _THREADS, "ifNull({role}, 'user') =", "ifNull({role}, 'assistant') ="),
    Mutant("threads", _THREADS, "first, of.zone", 'first, "UTC"'),
    Mutant("threads", _THREADS, "asked.idle_seconds * 1000", "asked.idle_seconds * 60"),
    Mutant("people seen before", _EARLIER, "first_linked_at < ", "first_linked_at <= "),
    Mutant("people seen before", _EARLIER, 'return f"{linked} UNION ALL ', 'return f"'),
    Mutant("people seen before", _EARLIER, "{unlinked} UNION ALL ", ""),
    Mutant("people seen before", _EARLIER, " UNION ALL {unnamed}", ""),
    Mutant("cohorts", "cohort.py", "count() >= {definition.at_least}", "count() > {definition.at_least}"),
    Mutant("cohorts", "cohort.py", "argMax(holds, place)", "argMin(holds, place)"),
    Mutant("cohorts", "cohort.py", "definition.range, definition.zone", 'definition.range, "UTC"'),
    Mutant("cohorts", "cohort.py", "dropped=dropped", "dropped=False"),
    Mutant("cohorts", "cohort.py", "AND NOT {belongs", "AND {belongs"),
    Mutant("people of a funnel", _FUNNEL, "{'=' if dropped else '>='}", "{'=' if dropped else '>'}"),
    Mutant("people of a funnel", _ORDER, "keys NOT IN ({largest})", "keys IN ({largest})"),
    Mutant("people of a path", _PATHS, "toInt64(length(places)) - {point.step}", "{point.step + 1}"),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.kind}: {m.old[:40]}")
def test_answer_of_a_mutant_is_not_the_oracles(many_people: Asked, mutant: Mutant) -> None:
    kinds = kinds_with(mutant)
    cases, check = CHECKS[mutant.kind]

    def survives(case: dict[str, Any]) -> bool:
        try:
            check(many_people, case, kinds)
        except AssertionError:
            return False
        return True

    assert not all(survives(case) for case in cases)


@pytest.mark.parametrize("kind", CHECKS)
def test_questions_that_tell_mutants_are_answered_right(many_people: Asked, kind: str) -> None:
    cases, check = CHECKS[kind]
    for case in cases:
        check(many_people, case)


def test_each_kind_has_three_mutants_of_its_own() -> None:
    for kind in CHECKS:
        assert kind.startswith("people") or sum(m.kind == kind for m in MUTANTS) >= 3, kind
