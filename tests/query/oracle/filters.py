"""Which rows a filter takes."""

import json
import math
import re
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
DEFAULTS = {"is_bot": False, "viewport_width": 0}


def raw(row: dict[str, Any], name: str) -> Any:
    if not name.startswith("event_metadata."):
        return row.get(name, DEFAULTS.get(name))
    found: Any = row["event_metadata"]
    for part in name.removeprefix("event_metadata.").split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def text(row: dict[str, Any], name: str) -> str | None:
    value = raw(row, name)
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, list | dict) else str(value)


def number(row: dict[str, Any], name: str) -> float | None:
    value = text(row, name)
    if value is None or not _NUMBER.fullmatch(value):
        return None
    read = float(value)
    return read if math.isfinite(read) else None


def moment(value: Any, zone: str = "UTC") -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        read = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return read if read.tzinfo else read.replace(tzinfo=ZoneInfo(zone))


def takes(asked: dict[str, Any] | None, row: dict[str, Any], zone: str = "UTC") -> bool:
    """Whether a row, with its `person`, passes. A moment of the filter without an offset is of the question's zone."""
    if asked is None:
        return True
    if "all" in asked:
        return all(takes(part, row, zone) for part in asked["all"])
    if "any" in asked:
        return any(takes(part, row, zone) for part in asked["any"])
    if "not" in asked:
        return not takes(asked["not"], row, zone)
    if "cohort" in asked:
        return asked["cohort"] in row["cohorts"]
    name, operator, value = asked["property"], asked.get("operator", "="), asked.get("value")
    have = text(row, name)
    if operator == "is set":
        return have is not None
    if operator == "is not set":
        return have is None
    if operator == "contains":
        return have is not None and value in have
    if operator == "matches":
        return have is not None and re.search(value, have) is not None
    if operator in ("!=", "not in"):
        return not takes({**asked, "operator": "=" if operator == "!=" else "in"}, row, zone)
    values = value if isinstance(value, list) else [value]
    kind = asked.get("type")
    if kind is None:
        if isinstance(raw(row, name), datetime) or name.endswith("timestamp"):
            kind = "time"
        elif values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            kind = "number"
    if kind == "number":
        mine, given = number(row, name), [float(v) for v in values]
    elif kind == "time":
        mine, given = moment(raw(row, name)), [moment(v, zone) for v in values]
    else:
        mine = have
        given = [("true" if v else "false") if isinstance(v, bool) else text({"v": v}, "v") or "" for v in values]
    if mine is None:
        return False
    match operator:
        case "=" | "in":
            return mine in given
        case "<":
            return mine < given[0]
        case "<=":
            return mine <= given[0]
        case ">":
            return mine > given[0]
        case ">=":
            return mine >= given[0]
        case "between":
            return given[0] <= mine <= given[1]
    raise AssertionError(operator)
