"""What expires goes from the store: rows, message texts, fields of metadata, month by month, beside loading; and what is
derived from these rows and names somebody goes with them.

The engine's own TTL is not used: it deletes at a time of its own choosing by a clock of its own, and neither counts nor
manifests would know of it (docs/decisions/0008). Here the ledger says durably what will go before the engine is asked.
Deadlines stand in the rows; a change of policy rewrites them first. Each statement is a mutation of one month, which
the engine carries out while loading goes on; everything but the deletion may be repeated at will, and a deletion is
asked for again only where the engine does not know of it.
"""

from collections.abc import Callable, Iterator

import structlog

from twintrack.clock import Clock, month_of
from twintrack.control.retention import Policies
from twintrack.errors import StoreUnavailable
from twintrack.load.deadlines import field_is_due, left_of, rewritten, without
from twintrack.load.outlived import lone
from twintrack.load.rollup import first_whole_month, fold, outlived
from twintrack.spool.protocol import Removals, Spool
from twintrack.store.protocol import Store
from twintrack.store.schema import DATABASE

log = structlog.get_logger()
_RAW = f"{DATABASE}.events"
_LOOK_SECONDS = 300.0
# A deletion makes the parts of its month anew. One of a large month waits until a day's worth has expired.
_SMALL_ROWS = 2_000_000
_DAY_SECONDS = 86_400.0
_IDS = 1_000


class Expiry:
    """Called by the loader's thread. Each turn is one short step."""

    def __init__(self, spool: Spool, store: Store, clock: Clock, policies: Callable[[], Policies]) -> None:
        self._spool, self._removals = spool, spool.removals
        self._store, self._clock, self._policies = store, clock, policies
        self._looking: Iterator[None] | None = None
        self._changed = False  # whether a pass has taken anything
        self._looked_at = self._large_at = -_DAY_SECONDS

    def go_on(self) -> None:
        """Before any insert: asks for the deletions that are counted and that the engine does not know of.

        Raises: StoreError.
        """
        for month, until in self._removals.pending().items():
            if self._known(month, until) is None:
                self._store.command(_deletion(month, until))

    def turn(self) -> bool:
        """One step where something is due and no insert is in doubt; whether there was one. Raises: StoreError."""
        removals, policies = self._removals, self._policies()
        pending, version = removals.pending(), removals.version()
        months = removals.rewrites()
        now = self._clock.monotonic_seconds()
        looks = policies.version and (self._looking is not None or now - self._looked_at >= _LOOK_SECONDS)
        if not (pending or months or looks or version != policies.version) or not self._spool.leads():
            return False
        if self._mutating() or not self._spool.quiet():
            return False
        for month, until in pending.items():
            if self._known(month, until):
                fold(self._store, month, self._spool.quiet)
                removals.done(month)
                log.info("expired_rows_removed", month=month)
        if version != policies.version:
            removals.begin_rewrite(policies.version, self._months())
            self._looking, self._looked_at, self._large_at = None, -_DAY_SECONDS, -_DAY_SECONDS
        elif months:
            self._rewrite(removals, policies, months[0])
        elif looks:
            self._looking = self._looking or self._look(removals, policies)
            self._looking = self._looking if next(self._looking, self) is None else None
        return True

    @property
    def rested(self) -> bool:
        """Whether a pass over all of raw is done, by the policies that hold, and the engine has carried it out."""
        removals, policies = self._removals, self._policies()
        waiting = removals.pending() or removals.rewrites() or removals.version() != policies.version
        looked = not policies.version or (self._looking is None and self._looked_at >= 0)
        return not waiting and looked

    # -- deadlines -----------------------------------------------------------------------------------------------

    def _rewrite(self, removals: Removals, policies: Policies, month: int) -> None:
        """Gives the rows of a month the deadlines that hold now; it is done when none has another."""
        wanted = rewritten(policies)
        other = " OR ".join(f"ifNull(toUInt32({name}), 0) != ifNull(toUInt32({e}), 0)" for name, e in wanted.items())
        if self._store.select(f"SELECT count() FROM {_RAW} WHERE toYYYYMM(date) = {month} AND ({other})").rows[0][0]:
            values = ", ".join(f"{name} = {expression}" for name, expression in wanted.items())
            self._store.command(f"ALTER TABLE {_RAW} UPDATE {values} IN PARTITION {month} WHERE {other}")
        else:
            removals.rewritten(month)
            log.info("deadlines_rewritten", month=month)

    # -- what is past them ---------------------------------------------------------------------------------------

    def _look(self, removals: Removals, policies: Policies) -> Iterator[None]:
        """Each step asks for one mutation at most; the next one waits until it is carried out."""
        self._looked_at = self._clock.monotonic_seconds()
        until = self._clock.milliseconds() // 1000
        # The youngest row that may be past a deadline is a day old.
        held = removals.expire_held(month_of(until - _DAY_SECONDS), lambda line: left_of(line, policies, until))
        if held:
            log.info("expired_in_spool", events=held)
        due = f"expires_at <= {_moment(until)}"
        large = self._looked_at - self._large_at >= _DAY_SECONDS
        for month in self._months_where(due):
            # By its deadline a deletion is known again; one of this second is left to the next pass.
            if (large or self._rows(month) <= _SMALL_ROWS) and self._known(month, until) is None:
                self._remove(removals, policies, month, until, due)
                yield
        # Behind what is due: whom rollups still name of what went by an earlier version, or without the end of its step.
        for month in outlived(self._store, first_whole_month(self._spool.complete_since())) if large else ():
            if self._known(month, until) is None:
                self._remove(removals, policies, month, until, due, anyway=True)
                yield
        if large or (self._changed and self._rows() <= _SMALL_ROWS):
            for table, where in lone(self._store, policies, self._spool.complete_since(), until * 1000):
                if self._store.select(f"SELECT count() FROM {DATABASE}.{table} WHERE {where}").rows[0][0]:
                    self._store.command(f"ALTER TABLE {DATABASE}.{table} DELETE WHERE {where}")
                    yield
        due = f"message_expires_at <= {_moment(until)} AND message_content IS NOT NULL"
        yield from self._change(removals, policies, until, due, "message_content = NULL", large=large)
        fields = {field for lives in policies.projects.values() for field in lives.fields}
        # Whether a key is there stands in the metadata alone, and all of it is read for that.
        for field in sorted(fields) if large or self._rows() <= _SMALL_ROWS else ():
            due = field_is_due(policies, field, until)
            yield from self._change(removals, policies, until, due, f"event_metadata = {without(field)}", large=large)
        if self._changed:
            removals.renew()  # what the log still holds of it goes with its file
            self._changed = False
        if large:
            self._large_at = self._looked_at

    def _remove(
        self, removals: Removals, policies: Policies, month: int, until: int, due: str, *, anyway: bool = False
    ) -> None:
        gone: dict[tuple[str, str], int] = {}
        complete: dict[str, int] = {}
        for project, environment, rows, newest in self._store.select(
            "SELECT project, environment, count(), toUnixTimestamp64Milli(max(event_timestamp))"
            f" FROM {_RAW} WHERE toYYYYMM(date) = {month} AND {due} GROUP BY project, environment"
        ).rows:
            gone[project, environment] = rows
            complete[project] = max(complete.get(project, 0), newest + 1)
        if gone or anyway:
            amended = self._chunks(removals, month, due)
            removals.begin(month, until, gone, complete, amended, lambda line: left_of(line, policies, until))
            self._store.command(_deletion(month, until))
            self._changed = True

    def _change(
        self, removals: Removals, policies: Policies, until: int, due: str, change: str, *, large: bool
    ) -> Iterator[None]:
        for month in self._months_where(due):
            if large or self._rows(month) <= _SMALL_ROWS:
                removals.amend(self._chunks(removals, month, due), lambda line: left_of(line, policies, until) or line)
                self._store.command(f"ALTER TABLE {_RAW} UPDATE {change} IN PARTITION {month} WHERE {due}")
                self._changed = True
                yield

    # -- what the engine says ------------------------------------------------------------------------------------

    def _chunks(self, removals: Removals, month: int, due: str) -> list[str]:
        """Chunks in grace that some of these rows came in."""
        ours = removals.in_grace(month)
        found: list[str] = []
        for start in range(0, len(ours), _IDS):
            ids = ", ".join(f"'{chunk_id}'" for chunk_id in ours[start : start + _IDS])
            rows = self._store.select(
                f"SELECT DISTINCT toString(chunk_id) FROM {_RAW}"
                f" WHERE toYYYYMM(date) = {month} AND chunk_id IN ({ids}) AND {due}"
            ).rows
            found += [chunk_id for (chunk_id,) in rows]
        return found

    def _months(self) -> list[int]:
        """Months of raw."""
        rows = self._store.select(
            "SELECT DISTINCT toUInt32(partition) FROM system.parts WHERE active"
            f" AND database = '{DATABASE}' AND table = 'events'"
        ).rows
        return sorted(int(month) for (month,) in rows)

    def _months_where(self, due: str) -> list[int]:
        rows = self._store.select(
            f"SELECT DISTINCT toYYYYMM(date) AS month FROM {_RAW} WHERE {due} ORDER BY month"
        ).rows
        return [int(month) for (month,) in rows]

    def _rows(self, month: int | None = None) -> int:
        """Rows of raw, or of one month."""
        where = "" if month is None else f" AND partition = '{month}'"
        answer = self._store.select(
            f"SELECT sum(rows) FROM system.parts WHERE active AND database = '{DATABASE}' AND table = 'events'{where}"
        )
        return int(answer.rows[0][0] or 0)

    def _mutating(self) -> bool:
        """Whether rows are being changed. Raises: StoreUnavailable where the engine cannot change them."""
        running, failing = self._store.select(
            "SELECT count(), countIf(latest_fail_reason != '') FROM system.mutations"
            f" WHERE database = '{DATABASE}' AND NOT is_done"
        ).rows[0]
        if failing:
            raise StoreUnavailable("a change of stored rows fails", hint="see latest_fail_reason in system.mutations")
        return int(running) > 0

    def _known(self, month: int, until: int) -> bool | None:
        """Whether a deletion is carried out; None where the engine was never told of it, or does not remember."""
        rows = self._store.select(
            f"SELECT min(is_done), count() FROM system.mutations WHERE database = '{DATABASE}' AND table = 'events'"
            f" AND position(command, {{until:String}}) > 0 AND position(command, {{month:String}}) > 0",
            {"until": f"toDateTime({until}", "month": f"PARTITION {month} "},
        ).rows
        return bool(rows[0][0]) if rows[0][1] else None


def _moment(seconds: int) -> str:
    return f"toDateTime({seconds}, 'UTC')"


def _deletion(month: int, until: int) -> str:
    return f"ALTER TABLE {_RAW} DELETE IN PARTITION {month} WHERE expires_at <= {_moment(until)}"
