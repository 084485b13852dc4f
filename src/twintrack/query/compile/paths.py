"""Paths: which events follow each other, from an event on or up to it."""

from typing import Any

from pydantic import Field

from twintrack.clock import iso
from twintrack.query import words
from twintrack.query.compile.order import MOST_TAGS, Per, check_floor, hashed, needs_person, tag, tagged, unit
from twintrack.query.compile.statement import Parameters, Plan, Statement
from twintrack.query.filters import condition
from twintrack.query.floor import Floor, having
from twintrack.query.period import known, state_of
from twintrack.query.question import RangedQuestion
from twintrack.query.scope import Scope, refused
from twintrack.query.source import NOBODY, events

_MOST_STEPS = 10
_MOST_NAMES = 50
_WHOLE_PATHS = 20
_NOTHING = "!"  # stands where a walk goes no further; a name has '=' before it, and '' is another one


class Paths(RangedQuestion):
    """Which ways people take: from an event, to an event, or from where they begin."""

    begin: str | None = Field(None, alias="from", max_length=500, description="The walk from its first such event on.")
    end: str | None = Field(None, alias="to", max_length=500, description="The walk up to its first such event.")
    steps: int = Field(5, description="So many events of each walk; 2 to 10.")
    per: Per = "session"
    exclude: list[str] = Field(default_factory=list, max_length=100, description="Names that are passed over.")
    top: int = Field(20, description="So many names are shown, the most frequent of the range; the rest is other.")

    def plan(self, scope: Scope) -> Plan:
        return _plan(self, scope)

    def actors(self, scope: Scope, p: Parameters, point: Any) -> str:
        return _actors(self, scope, p, point)


def _check(asked: Paths) -> None:
    if not 2 <= asked.steps <= _MOST_STEPS:
        raise refused(f"paths have 2 to {_MOST_STEPS} steps, not {asked.steps}", "ask for fewer", "bad_paths")
    if not 1 <= asked.top <= _MOST_NAMES:
        raise refused(f"`top` is 1 to {_MOST_NAMES}", "exclude names that do not matter", "bad_paths")
    if asked.begin is not None and asked.end is not None:
        raise refused(
            "paths are from an event or to one", "a funnel asks for both: `from` as its first step", "bad_paths"
        )
    check_floor(asked.per, asked.floor)


def walks(asked: Paths, scope: Scope, p: Parameters, *, whose: bool = False) -> str:
    """A SELECT of (person, places, uncut): each walk with its names ('=' before each, '' for other), and whether nothing of
    it was cut off; `person` only with `whose`.

    Raises: RequestError.
    """
    _check(asked)
    of, by = asked.period(scope), unit(asked.per)
    where = [of.within(p), condition(asked.filter, scope, p)]
    if asked.exclude:
        where.append(f"event_name NOT IN {p.texts(asked.exclude)}")

    person = needs_person(asked.per, [], asked.filter)
    where.append(f"{by} != ''")
    # All names by how often they come: an event carries the number of its name, the first ones are shown.
    named = events(p, ["event_name"], where, person=person)

    def names(of: str = "") -> str:
        return (
            f"SELECT groupArray(name) FROM (SELECT event_name::String AS name FROM"
            f" ({named}) GROUP BY event_name{of} ORDER BY count() DESC, event_name)"
        )

    known = names()
    told = f"({names(having(asked.floor, 'uniqExact(person)'))})" if asked.floor > 1 else "known"
    number = "transform(event_name, known, range(1, length(known) + 1), 0)"
    columns = [*(["session_id"] if by == "session_id" else []), f"{tagged(number)} AS place"]
    rows = events(p, columns, where, person=person or whose)
    gathered = (
        f"SELECT arrayCompact(arrayMap(place -> {tag('place')}, arraySort(groupArray(place)))) AS names,"
        f" {'argMin(person, place)' if whose else NOBODY} AS whose FROM ({rows}) GROUP BY {hashed(by)}"
    )
    anchor = asked.begin if asked.begin is not None else asked.end
    kept, found, shown = "names", "true", f"arraySlice({told}, 1, {asked.top})"
    if anchor is not None:
        at = f"indexOf(names, toUInt32(indexOf(known, {p.text(anchor)})))"
        kept = f"arraySlice(names, {at})" if asked.begin is not None else f"arraySlice(names, 1, {at})"
        found, shown = f"{at} > 0", f"arrayPushBack({shown}, {p.text(anchor)})"
    cut = f"arraySlice(kept, 1, {asked.steps})"
    if asked.end is not None:
        cut = f"arraySlice(kept, greatest(length(kept) - {asked.steps}, 0) + 1)"
    return (
        f"WITH ({known}) AS known, {shown} AS shown,"
        f" arrayMap(name -> throwIf(length(known) > {MOST_TAGS}, 'paths tell a million names apart at most')"
        " + indexOf(known, name), shown) AS numbers, arrayMap(name -> concat('=', name), shown) AS told"
        f" SELECT whose AS person, arrayMap(name -> told[indexOf(numbers, name)], {cut}) AS places,"
        f" length(kept) <= {asked.steps} AS uncut"
        f" FROM (SELECT whose, {kept} AS kept FROM ({gathered}) WHERE {found})"
    )


def _actors(asked: Paths, scope: Scope, p: Parameters, point: Any) -> str:
    """`step` is a place, counted back from the asked event with `to`; `group` a name there, or the source and target of a
    link from there (null for other); the outcome `leave` (with `to`: `enter`) those who end (begin) there. With the outcome
    `path`, `group` is all of a path's names."""
    walked = walks(asked, scope, p, whose=True)
    names, edge = point.group or [], "leave" if asked.end is None else "enter"
    where = ["person != ''"]
    if point.outcome == "path" and names and point.step is None:
        where.append(f"places = {p.texts(['' if name is None else '=' + name for name in names])}")
    elif (
        len(names) > 2
        or (point.step is None) != (not names)
        or point.outcome not in (None, edge)
        or (point.outcome == edge and len(names) != 1)
    ):
        raise refused(
            f"a point of paths is a place and a name, or two, or with the outcome `{edge}` one; or a whole path",
            "send `step` and `group`; of a path the outcome `path` and its names as `group`",
            "no_actors",
        )
    elif names:
        at = f"{point.step + 1}" if asked.end is None else f"toInt64(length(places)) - {point.step}"
        where += [f"{at} >= 1", f"{at} + {len(names) - 1} <= length(places)"]
        for n, name in enumerate(names):
            where.append(f"places[{at} + {n}] = {p.text('' if name is None else '=' + name)}")
        if point.outcome == edge:
            where.append(f"uncut AND {at} = {'length(places)' if asked.end is None else '1'}")
    return f"SELECT DISTINCT person FROM ({walked}) WHERE {' AND '.join(where)}"


def _main(asked: Paths, scope: Scope) -> Statement:
    p = Parameters(scope.tenancy)
    place, edge = ("i - 1", "i = length(places)") if asked.end is None else ("i - length(places)", "i = 1")
    target = f"if(i = length(places), '{_NOTHING}', places[i + 1])"
    links = (
        f"arrayMap(i -> (toInt64({place}), places[i], {target}, toUInt8({edge}), []::Array(String)),"
        " arrayEnumerate(places))"
    )
    whole = f"if(often <= {_WHOLE_PATHS}, [(toInt64(0), '', '', toUInt8(0), places)], [])"
    return p.statement(
        "SELECT e.1 AS place, e.2 AS source, e.3 AS target, e.5 AS path, sum(walks), sum(entire * e.4)"
        " FROM (SELECT *, row_number() OVER (ORDER BY walks DESC, places) AS often FROM"
        f" (SELECT places, count() AS walks, countIf(uncut) AS entire FROM ({walks(asked, scope, p)}) GROUP BY places))"
        f" ARRAY JOIN arrayConcat({links}, {whole}) AS e GROUP BY place, source, target, path"
        " ORDER BY place, sum(walks) DESC, source, target, path"
    )


def _plan(asked: Paths, scope: Scope) -> Plan:
    main = _main(asked, scope)
    of = asked.period(scope)

    state = state_of(of, scope)
    edges = "leave" if asked.end is None else "enter"

    def shape(rows: Any) -> dict[str, Any]:
        floor = Floor(asked.floor)

        def kept(n: int) -> int | None:
            told: int | None = floor.number(known(n, state), n)
            return told

        nodes: dict[tuple[int, str], list[int]] = {}
        links, whole = [], []
        for place, source, target, path, count, edge in rows["main"]:
            if path:
                if floor.lets(count):
                    whole.append({"path": [_name(n) for n in path], "walks": count})
                continue
            node = nodes.setdefault((place, source), [0, 0])
            node[0], node[1] = node[0] + count, node[1] + edge
            # A line names what somebody did: of too few people there is none.
            if target != _NOTHING and floor.lets(count):
                links.append({"place": place, "source": _name(source), "target": _name(target), "walks": count})
        return {
            "zone": asked.zone,
            "range": {"from": iso(of.start), "to": iso(of.end)},
            "walks": kept(sum(n for (place, _), (n, _) in nodes.items() if place == 0)),
            "nodes": [
                {"place": place, "name": _name(name), "walks": n, edges: kept(m)}
                for (place, name), (n, m) in sorted(nodes.items(), key=lambda node: (node[0][0], -node[1][0]))
                if floor.lets(n)
            ],
            "links": links,
            "paths": whole,
            **floor.said(),
        }

    return Plan({"main": main}, _definition(asked, scope), shape, reads=(of.start, of.end))


def _name(shown: str) -> str | None:
    return shown[1:] if shown else None


def _definition(asked: Paths, scope: Scope) -> str:
    said = [f"events of each {asked.per} in order, the same name several times in a row as one"]
    if asked.begin is not None:
        said.append(f"from the first {asked.begin} on, {asked.steps} events at most")
    elif asked.end is not None:
        said.append(f"up to the first {asked.end}, {asked.steps} events at most; places count back from it")
    else:
        said.append(f"from the first one on, {asked.steps} events at most")
    if asked.exclude:
        said.append("without " + ", ".join(asked.exclude))
    said.append(f"the {asked.top} most frequent names of the range are shown, the rest as other")
    return "; ".join([*said, words.conditions(asked, asked.period(scope))]) + "."
