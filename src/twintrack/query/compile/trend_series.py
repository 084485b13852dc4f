"""What the engine said of trends, put in order: groups by size, a value for each bucket, formulas over them. Pure."""

from typing import TYPE_CHECKING, Any

from twintrack.query import formula, words
from twintrack.query.floor import Floor
from twintrack.query.period import Bucket, known

if TYPE_CHECKING:
    from twintrack.query.compile.trends import Trends

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TOTAL = -1
OTHER = ["*"]
# What is 0, not unknown, where nothing happened.
_COUNTED = frozenset({"count", "persons", "sessions", "sum"})


def ranked(asked: "Trends", main: list[Any], comparison: list[Any]) -> list[tuple[str, ...]]:
    """The groups that are shown, the largest by the first series first, the rest last."""
    if not asked.breakdown:
        return [()]
    groups = {tuple(row[0]) for row in [*main, *comparison]}
    totals = {tuple(row[0]): row[2] for row in main if row[1] == TOTAL}

    def rank(group: tuple[str, ...]) -> Any:
        total = totals.get(group)
        return total is None, -(total or 0), [key.encode() for key in group]

    largest = sorted(groups - {tuple(OTHER)}, key=rank)
    return largest + [group for group in groups if group == tuple(OTHER)]


def series_of(
    asked: "Trends", trees: list[Any], buckets: list[Bucket], rows: list[Any], order: list[tuple[str, ...]], state: str
) -> list[Any]:
    """Each series of each group: a value for every bucket, and one for the whole range, whose state is given."""
    width = 2 if asked.floor else 1
    cells = {(tuple(row[0]), row[1]): row[2:] for row in rows}
    steps = [*range(len(buckets)), TOTAL]
    answer = []
    for group in order:
        numbers: dict[str, list[float | None]] = {}
        floors = [Floor(asked.floor) for _ in asked.series]
        for n, series in enumerate(asked.series):
            values = numbers[LETTERS[n]] = []
            for step in steps:
                cell = cells.get((group, step))
                value = cell[n * width] if cell is not None else None
                if value is None and series.measure in _COUNTED:
                    value = 0
                of = state if step == TOTAL else buckets[step].state
                value = known(value, of) if of == "gap" or series.measure in _COUNTED else value
                # What is made of events of nobody alone, a 0 of values too, is no number of no people.
                if asked.floor and cell is not None and (cell[n * width] or series.property):
                    value = floors[n].number(value, 0 if cell[n * width] is None else max(cell[n * width + 1], 1))
                values.append(value)
        shown_as = _group(asked, group)
        for n, series in enumerate(asked.series):
            letter = LETTERS[n]
            label = series.label or words.series(series)
            answer.append({"name": letter, "label": label, **shown_as, **floors[n].said(), **_values(numbers[letter])})
        for tree, asked_formula in zip(trees, asked.formulas, strict=True):
            made = [formula.value(tree, {a: v[i] for a, v in numbers.items()}) for i in range(len(steps))]
            name = asked_formula.formula
            answer.append({"name": name, "label": asked_formula.label or name, **shown_as, **_values(made)})
    return answer


def _values(values: list[float | None]) -> dict[str, Any]:
    return {"values": values[:-1], "total": values[-1]}


def _group(asked: "Trends", group: tuple[str, ...]) -> dict[str, Any]:
    if not asked.breakdown:
        return {}
    if list(group) == OTHER:
        return {"breakdown": None, "other": True}
    return {"breakdown": [key[1:] if key else None for key in group], "other": False}
