"""What is wrong with a body, in our words: where it is, and what should stand there."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_MOST_FAULTS = 5
# What a field of ours could be called, or mistyped as. Anything else that stands in the place of a name may be a value.
_A_NAME = re.compile(r"[A-Za-z_]{1,32}")
_WORDS = {
    "missing": "{at} is missing",
    "extra_forbidden": "there is no field {at}",
    "model_type": "{at} must be an object",
    "model_attributes_type": "{at} must be an object",
    "dict_type": "{at} must be an object",
    "list_type": "{at} must be a list",
    "string_type": "{at} must be a text",
    "bool_type": "{at} must be true or false",
    "bool_parsing": "{at} must be true or false",
    "int_type": "{at} must be a whole number",
    "int_parsing": "{at} must be a whole number",
    "int_from_float": "{at} must be a whole number",
    "literal_error": "{at} must be one of {expected}",
    "greater_than_equal": "{at} must be at least {ge}",
    "less_than_equal": "{at} must be at most {le}",
    "too_short": "{at} must hold at least {min_length}",
    "too_long": "{at} must hold at most {max_length}",
    "string_too_long": "{at} must have at most {max_length} characters",
}


def told(errors: Iterable[Mapping[str, Any]]) -> str:
    """The first five faults of a pydantic error. Names fields as they were sent where they read like one, never values."""
    return "; ".join(_told(error) for error, _ in zip(errors, range(_MOST_FAULTS), strict=False))


def _told(error: Mapping[str, Any]) -> str:
    if error["type"] == "json_invalid":
        return "the body is not JSON"
    # Without the body itself, and without the names of our own classes that a choice between several adds.
    parts = [_part(part) for part in error["loc"] if part != "body" and not str(part)[:1].isupper()]
    at = ".".join(parts) or "the body"
    words = _WORDS.get(error["type"])
    return words.format(at=at, **error.get("ctx", {})) if words else f"{at}: {error['msg']}"


def _part(part: object) -> str:
    return str(part) if isinstance(part, int) or _A_NAME.fullmatch(str(part)) else "(a name that is none of ours)"
