"""Twintrack: every product event to your vendors and to your own ClickHouse, and proof that both agree."""

from typing import Any

__version__ = "0.1.0"


def connect(url_or_path: Any, token: str = "", *, project: str = "default", environment: str = "production") -> Any:
    """Questions from a script or notebook, to a service by address and key or to a data folder by path.

    See `twintrack.client`. Loaded when it is called: the commands have no use for it.
    """
    from twintrack.client import connect as made

    return made(url_or_path, token, project=project, environment=environment)
