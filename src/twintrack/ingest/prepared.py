"""The pipeline where fields are sealed: people whom we see for the first time get their keys on the way through it."""

from collections.abc import Sequence

from twintrack.control.person_keys import PersonKeys
from twintrack.errors import Unavailable
from twintrack.event import RequestContext, WireEvent
from twintrack.ingest.pipeline import Prepared, Rules, finish, mask_batch, prepare
from twintrack.ingest.seal import KeysMissing, Sealing
from twintrack.outcomes import Refusal
from twintrack.sealed_text import Fields

_MOST_ROUNDS = 20  # one is the rule; others where somebody is erased just then


class Preparing:
    """Shape: without `fields` nothing is sealed, which costs nothing."""

    def __init__(self, fields: Fields | None, person_keys: PersonKeys | None) -> None:
        self._fields, self._keys = fields, person_keys

    async def prepared(
        self, elements: Sequence[WireEvent | Refusal], context: RequestContext, rules: Rules
    ) -> Prepared:
        """The batch behind the pipeline; keys that were made for it are on disk. Raises: Unavailable."""
        if self._fields is None or self._keys is None:
            return prepare(elements, context, rules)
        project, batch = context.tenancy.project, mask_batch(elements, context, rules)
        for _ in range(_MOST_ROUNDS):
            sealing = Sealing(self._fields, project, self._keys.known(project))
            try:
                return finish(batch, context, rules, sealing)
            except KeysMissing as missing:
                await self._keys.make(project, missing.people)
        raise Unavailable(
            "no key would stand at the time of this request: the clock went back, or people are erased one after another",
            hint="nothing was kept; send again after Retry-After",
        )
