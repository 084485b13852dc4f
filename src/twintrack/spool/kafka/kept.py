"""What a topic cannot do: messages that were appended stay until the topic's own retention takes them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from twintrack.errors import Unavailable
from twintrack.spool.protocol import Kind


def _kept() -> NoReturn:
    raise Unavailable("a topic cannot be rewritten", hint="an erasure needs a local spool for now")


class KeptByTopic:
    """The part of a spool that takes rows out again, for one that cannot."""

    removals = None
    erasing = False

    def removing(self) -> dict[int, int]:
        return {}

    def renew(self) -> None:
        _kept()

    def passed(self) -> bool:
        return False

    def rows(self, *_: str) -> Iterator[tuple[str, Kind, bytes]]:
        _kept()

    def remove(self, gone: Callable[[Kind, bytes], bool], names: Iterable[str]) -> Counter[str]:
        _kept()

    def plan_erasure(self, request: str, events: dict[tuple[str, str], int]) -> None:
        _kept()

    def settle_erasure(self, request: str, months: Iterable[int]) -> int:
        _kept()

    def erased_ids(self) -> list[tuple[str, bytes]]:
        return []

    def forget_erased(self, identities: Iterable[tuple[str, bytes]]) -> None: ...
