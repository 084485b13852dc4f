"""What a question asks, in words: the definition that every answer shows."""

from typing import TYPE_CHECKING

from twintrack.query.filters import words as filter_words
from twintrack.query.period import Period
from twintrack.query.question import EventSelection, RangedQuestion

if TYPE_CHECKING:
    from twintrack.query.compile.trends import Series, Trends


def selection(of: EventSelection) -> str:
    """`events named purchase where event_metadata.plan = pro`."""
    named = " or ".join(of.names)
    said = f"events named {named}" if named else "events of any name"
    return f"{said} where {filter_words(of.filter)}" if of.filter is not None else said


def series(of: "Series") -> str:
    said = selection(of)
    match of.measure:
        case "count":
            return f"number of {said}"
        case "persons":
            return f"persons with {said}"
        case "sessions":
            return f"sessions with {said}"
        case "per person":
            return f"{said} per person who had one"
    return f"{of.measure} of {of.property} over {said}"


def conditions(of: RangedQuestion, period: Period) -> str:
    """The end of every definition: range, zone, filter and floor."""
    said = [period.words()]
    if of.filter is not None:
        said.append(f"only where {filter_words(of.filter)}")
    if of.floor:
        said.append(f"numbers and names of fewer than {of.floor} people are withheld")
    return "; ".join(said)


def trends(of: "Trends", period: Period, unit: str, letters: str) -> str:
    said = [f"{letter}: {series(one)}" for letter, one in zip(letters, of.series, strict=True)]
    said += [f"{f.label or 'also'}: {f.formula}" for f in of.formulas]
    said.append(f"by {unit}" + (", added up from the first" if of.cumulative else ""))
    if of.rolling > 1:
        said.append(f"each step covers {of.rolling} of them")
    if of.breakdown:
        said.append(f"for each {' and '.join(of.breakdown)}: the {of.top} largest by A, and the rest as other")
    if of.compare is not None:
        said.append(f"beside {of.compare if isinstance(of.compare, str) else 'the period from ' + of.compare.since}")
    return "; ".join([*said, conditions(of, period)]) + "."
