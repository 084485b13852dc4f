"""Where the next page of a list begins: the last row's place in the order, in letters fit for a URL."""

import base64
import json
from typing import Any

from twintrack.query.scope import refused


def made(*place: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def read(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """Raises: RequestError for what `made` did not make of such kinds."""
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        place = None
    if not isinstance(place, list) or [type(part) for part in place] != list(kinds):
        raise refused("the cursor is not one of ours", "leave `after` out for the first page", "bad_cursor")
    return tuple(place)
