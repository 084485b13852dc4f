"""The deadlines of retention as the store computes them, and as they are read from a row of a chunk. Pure.

Both say what `control/retention.py` says: an insert carries the expressions, a change of policy rewrites rows with
them, and a manifest is amended by what the same rule says of the encoded row.
"""

from typing import Any

import msgspec

from twintrack.control.retention import KEPT, MESSAGE, METADATA, Policies, deadline
from twintrack.event import Row

_LAST = 4_294_967_295  # the last second of a DateTime
_NEVER = -1
_NO_RULE = -2
_decode = msgspec.json.Decoder(list[Any]).decode
_ENCODER = msgspec.json.Encoder()
_PLACE = {name: place for place, name in enumerate(Row.__struct_fields__)}


def columns(policies: Policies) -> dict[str, str]:
    """The columns of deadlines and their expressions; none where there is no rule."""
    if not policies.version:
        return {}
    return {"expires_at": _expires(policies, ""), "message_expires_at": _expires(policies, MESSAGE)}


def rewritten(policies: Policies) -> dict[str, str]:
    """The same for rows that are stored already, also where there is no rule any more."""
    return columns(policies) or {"expires_at": "NULL", "message_expires_at": "NULL"}


def field_is_due(policies: Policies, field: str, until_seconds: int) -> str:
    """Whether a field of metadata is there and past its deadline."""
    name = quoted(field.removeprefix(METADATA))
    there = f"arrayExists(p -> p = {name} OR startsWith(p, concat({name}, '.')), JSONAllPaths(event_metadata))"
    return f"ifNull({_expires(policies, field)} <= toDateTime({until_seconds}, 'UTC'), 0) AND {there}"


def without(field: str) -> str:
    """Metadata without one of its outermost keys."""
    kept = (
        f"arrayFilter(x -> x.1 != {quoted(field.removeprefix(METADATA))},"
        " JSONExtractKeysAndValuesRaw(toString(event_metadata)))"
    )
    text = f"arrayStringConcat(arrayMap(x -> concat(toJSONString(x.1), ':', x.2), {kept}), ',')"
    return f"CAST(concat('{{', {text}, '}}'), 'JSON(max_dynamic_paths = 256)')"


def _expires(policies: Policies, field: str) -> str:
    days = _days(policies, field)
    if days == str(_NEVER):
        return "NULL"
    since = f"if(source = '{KEPT}', server_timestamp, event_timestamp)"
    at = f"intDiv(toUnixTimestamp64Milli({since}), 1000) + toInt64({days}) * 86400"
    return f"if({days} < 0, NULL, toDateTime(least(greatest({at}, 0), {_LAST}), 'UTC'))"


def _days(policies: Policies, field: str) -> str:
    """Days by project and event; negative for never. By tables of hashes, so that many rules cost what few do."""
    own: dict[str, int] = {}
    wide: dict[str, int] = {}
    for project, lives in sorted(policies.projects.items()):
        for rule in lives.rules:
            if rule.field == field:
                days = _NEVER if rule.days is None else rule.days
                if rule.event:
                    own[f"{project}\n{rule.event}"] = days
                else:
                    wide[project] = days
    by_project = _by("toString(project)", wide, _NEVER)
    if not own:
        return by_project
    by_event = _by("concat(project, '\\n', event_name)", own, _NO_RULE)
    return f"if({by_event} = {_NO_RULE}, {by_project}, {by_event})"


def _by(key: str, found: dict[str, int], default: int) -> str:
    if not found:
        return str(default)
    names, days = ", ".join(map(quoted, found)), ", ".join(map(str, found.values()))
    return f"transform({key}, [{names}], [{days}], {default})"


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def left_of(line: bytes, policies: Policies, until_seconds: int) -> bytes | None:
    """What is left of an encoded row at that time: the row, one without text or fields, or None."""
    cells = _decode(line)
    lives = policies.of(cells[0])
    if lives is None:
        return line

    def due(field: str) -> bool:
        days = lives.days(cells[_PLACE["event_name"]], field)
        if days is None:
            return False
        at = deadline(
            int(cells[_PLACE["event_timestamp"]]),
            int(cells[_PLACE["server_timestamp"]]),
            cells[_PLACE["source"]],
            days,
        )
        return min(_LAST, max(0, at)) <= until_seconds

    if due(""):
        return None
    text, held = _PLACE["message_content"], cells[_PLACE["event_metadata"]]
    due_fields = [field.removeprefix(METADATA) for field in lives.fields if due(field)]
    gone = [key for key in held for name in due_fields if key == name or key.startswith(f"{name}.")]
    if not gone and (cells[text] is None or not due(MESSAGE)):
        return line
    if due(MESSAGE):
        cells[text] = None
    for key in gone:
        del held[key]
    return _ENCODER.encode(cells)
