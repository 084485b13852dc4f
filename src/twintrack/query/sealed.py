"""What the store has sealed under keys of people: no condition may compare it, and who may see texts reads it opened."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from twintrack.auth import Principal
from twintrack.permissions import Permission


class Sealed(NamedTuple):
    """Shape: `opened` takes a project and a value of JSON; None where nothing was ever sealed."""

    fields: frozenset[str] = frozenset()
    opened: Callable[[str, Any], Any] | None = None

    async def shown(self, answer: Any, principal: Principal) -> Any:
        """An answer as this asker sees it. Raises: Unavailable where the keys cannot be asked for."""
        if self.opened is None or not principal.may(Permission.TEXT):
            return answer
        return await asyncio.to_thread(self.opened, principal.tenancy.project, answer)


NOTHING = Sealed()
