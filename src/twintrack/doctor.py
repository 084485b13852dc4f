"""`twintrack doctor`: what the parts say of each other. Each check says what it saw and, where it failed, what to do."""

import asyncio
import shutil
from typing import Any, NamedTuple

from twintrack.app import Services
from twintrack.clock import iso
from twintrack.control.erasures import Erasures
from twintrack.errors import StoreError
from twintrack.load.rollup import Difference, compare, first_whole_month, outlived
from twintrack.query.compile.statement import named
from twintrack.sealed_text import COLUMNS, ID_CHARACTERS, MARK, Fields, key_of
from twintrack.store.migrate import missing
from twintrack.trace.pipeline_state import in_doubt, pipeline_state

_COMPARISONS = 3  # a rollup is compared again where events were loaded meanwhile
_SKEW_MILLISECONDS = 60_000
_LED_MILLISECONDS = 60_000
_AHEAD_MILLISECONDS = 300_000
_EXPIRY_SECONDS = 2 * 86_400
_SEALED_DAYS = 7  # whose texts are looked at: reading them is dear
_MOST_KEYS = 100_000  # of a project


class Check(NamedTuple):
    check: str
    ok: bool
    says: str
    do: str = ""


async def examine(services: Services) -> dict[str, Any]:
    """Every check, those of the store last; a store that does not answer fails its own check and skips the rest."""
    state = await pipeline_state(
        services.spool,
        services.loader,
        services.executor,
        services.clock,
        services.metrics,
        services.store.engine,
        None,
        services.started_milliseconds,
    )
    checks = [
        Check("lock", True, f"this process owns {services.settings.data}"),
        _disk(services, state),
        _store(state),
        await asyncio.to_thread(_balance, services, state),
        _masking(services),
        await asyncio.to_thread(_chunks, services),
        await asyncio.to_thread(_erasures, services),
    ]
    for check in (_schema, _rollups, _expiry, _clock, _person_keys):
        try:
            checks.append(await asyncio.to_thread(check, services))
        except StoreError as error:
            checks.append(
                Check(check.__name__[1:], False, f"not known: {error.message}", error.hint or "mend the store")
            )
    return {"ok": all(check.ok for check in checks), "checks": [check._asdict() for check in checks]}


def _disk(services: Services, state: dict[str, Any]) -> Check:
    disk = shutil.disk_usage(services.settings.data)
    free = disk.free >= max(services.settings.segment_bytes * 2, disk.total // 50)
    says = f"{disk.free >> 20:,} MiB free of {disk.total >> 20:,}, spool {state['spool_bytes'] >> 20:,} MiB"
    return Check("disk", free, says, "" if free else "free space: below this the spool will answer 503")


def _store(state: dict[str, Any]) -> Check:
    store = state["store"]
    if store["ok"]:
        return Check("store", True, f"{store['engine']}, {state['stored']:,} events")
    return Check(
        "store", False, str(store["error"]), f"{store['hint'] or 'mend the store'}; events stay safe in the spool"
    )


def _balance(services: Services, state: dict[str, Any]) -> Check:
    holds, difference = state["balance"]["holds"], state["balance"]["difference"]
    says = (
        f"received {state['received']:,} = stored {state['stored']:,} + in spool {state['in_spool']:,}"
        f" + duplicate {state['duplicate']:,} + rejected {state['rejected']:,} + dropped {state['dropped']:,}"
        f" + quarantined {state['quarantined']:,} + erased {state['erased']:,} + expired {state['expired']:,}"
    )
    if state["erasing"]:
        failed = Erasures(services.control.engine).failed()
        says += "; rows of an erased person are being deleted, and `stored` is what was counted before"
        if failed:
            stopped = f"{says}: that erasure has stopped, so nobody can tell whether others are missing"
            return Check("balance", False, stopped, f"`twintrack erase --resume {failed[0]}`")
    do = f"{difference:+,} events are not explained: keep the data folder and report this"
    return Check("balance", holds, says, "" if holds else do)


def _masking(services: Services) -> Check:
    maskers = services.receiver.maskers
    masker = maskers.of("")
    if masker is None:
        return Check(
            "masking", False, "masking is switched off: personal data is stored as it is sent", "TWINTRACK_MASKING=true"
        )
    if maskers.fault:
        return Check(
            "masking",
            False,
            f"the rules file is refused: {maskers.fault}; rules {masker.version} stay in force",
            f"mend {services.settings.masking_rules}: it is read again at once",
        )
    return Check("masking", True, f"rules {masker.version}")


def _chunks(services: Services) -> Check:
    ledger = services.spool.ledger
    broken = ledger.check()
    if broken != "ok":
        return Check("chunks", False, f"the ledger is damaged: {broken}", "stop, copy its database, and report this")
    faults = services.spool.unreadable()
    if faults:
        first, why = next(iter(faults.items()))
        return Check("chunks", False, f"{len(faults):,} cannot be read, the first is {first}: {why.message}", why.hint)
    quarantined = sum(chunk.rows for chunk in ledger.chunks("quarantined"))
    if quarantined:
        return Check(
            "chunks",
            False,
            f"{quarantined:,} rows stand in quarantine because the store refused them",
            "mend the cause, then `twintrack replay`",
        )
    return Check("chunks", True, f"{len(services.spool.pending()):,} wait, every one can be read")


def _erasures(services: Services) -> Check:
    requests = Erasures(services.control.engine)
    failed = requests.failed()
    if failed:
        held = (
            "; it has begun to delete rows, so rollups are not made again and nothing expires until it ends"
            if services.spool.erasing
            else ""
        )
        return Check(
            "erasures",
            False,
            f"{len(failed):,} stopped before the end, the first is {failed[0]}{held}",
            f"see the log for why, then `twintrack erase --resume {failed[0]}`",
        )
    waiting = requests.open()
    waited = services.clock.milliseconds() - waiting[0].requested_at if waiting else 0
    if waited > _LED_MILLISECONDS and not services.spool.led():
        return Check(
            "erasures",
            False,
            f"{len(waiting):,} wait since {iso(waiting[0].requested_at)}, and no loader is at work",
            "start `twintrack load`, or a node without TWINTRACK_LOAD=false",
        )
    return Check(
        "erasures",
        True,
        f"{len(waiting):,} under way, the oldest since {iso(waiting[0].requested_at)}"
        if waiting
        else "none is under way",
    )


def _schema(services: Services) -> Check:
    lacking = [migration.name for migration in missing(services.store)]
    if lacking:
        return Check("schema", False, f"migrations are missing: {', '.join(lacking)}", "run `twintrack migrate`")
    return Check("schema", True, "every migration is applied")


def _rollups(services: Services) -> Check:
    """Equality with raw, above the watermark. What moved during each comparison is told, not judged."""
    spool = services.spool
    since = first_whole_month(spool.complete_since())
    stale = set(spool.stale_months())
    lost = sorted(month for month in stale if month < since)
    different: set[Difference] | None = None
    moved = False
    for _ in range(_COMPARISONS):
        before = _settled(services)
        found = set(compare(services.store, since))
        different = found if different is None else different & found
        moved = before != _settled(services) or _half_inserted(services)
        if not different or not moved:
            break
    different = {one for one in different or () if one.month not in stale}
    if different and moved:
        return Check("rollups", True, "events were being loaded during every comparison: run again when less arrives")
    if different:
        named = ", ".join(f"{one.table} {one.month}" for one in sorted(different))
        months = " ".join(str(one) for one in sorted({one.month for one in different}))
        return Check("rollups", False, f"not what raw says: {named}", f"run `twintrack rollup rebuild {months}`")
    if lost:
        named = ", ".join(str(month or "all time") for month in lost)
        return Check(
            "rollups",
            False,
            f"raw is complete since {since} only: an insert into {named} was in doubt, and its rollups cannot be made again",
            "leave them: what expired is in these rollups alone, and each may be off by the rows of that insert",
        )
    waiting = f"; {len(stale)} months are being made again" if stale else ""
    return Check("rollups", True, f"equal to raw{f' since {since}' if since else ''}{waiting}")


def _settled(services: Services) -> tuple[int, list[int], int]:
    stored = sum(n for (_, _, outcome, _), n in services.spool.tallies().items() if outcome == "stored")
    return stored, services.spool.stale_months(), len(services.spool.in_grace()[0])


def _half_inserted(services: Services) -> bool:
    """Whether raw has rows whose rollups may still lack them: the loader sends their chunk again."""
    question = in_doubt(services.spool)
    return question is not None and services.store.select(question).rows[0][0] > 0


def _expiry(services: Services) -> Check:
    """What is past its deadline is gone, give or take the time between two passes; a large month takes a day."""
    policies = services.control.retention.policies()
    removals = services.spool.removals
    if not policies.version:
        return Check("expiry", True, "nothing expires: no project has a rule of retention")
    months = removals.rewrites()
    if months or removals.version() != policies.version:
        return Check("expiry", True, f"rules have changed; deadlines of {len(months)} months are being written")
    due = services.clock.milliseconds() // 1000 - _EXPIRY_SECONDS
    late = services.store.select(
        f"SELECT count() FROM analytics.events WHERE expires_at <= toDateTime({due}, 'UTC')"
        f" OR (message_expires_at <= toDateTime({due}, 'UTC') AND message_content IS NOT NULL)"
    ).rows[0][0]
    if late:
        return Check(
            "expiry", False, f"{late:,} rows are more than two days past a deadline", "see the log for what fails"
        )
    held = services.spool.complete_since()
    named = _named_still(services) and _named_still(services)  # not what went in between
    if named:
        return Check(
            "expiry",
            False,
            f"rollups of {', '.join(map(str, sorted(named)))} name people whose events have expired",
            "it is mended within a day, and at a start; see the log for what fails",
        )
    return Check(
        "expiry",
        True,
        f"{len(policies.projects)} projects have rules, no row is late; raw of {len(held)} is complete from a watermark on",
    )


def _named_still(services: Services) -> set[int]:
    """Months whose rollups name who has expired from raw, but for those that are being swept."""
    removals, first = services.spool.removals, first_whole_month(services.spool.complete_since())
    swept = set(removals.pending())
    return set(outlived(services.store, first)) - swept - set(removals.pending())


def _person_keys(services: Services) -> Check:
    """Every key opens, and there is one for the texts of the last days. Those of who is being erased go."""
    keys, fields = services.person_keys, services.settings.sealed
    if keys is None or (fields is None and not keys.count()):
        return Check("person_keys", True, "no field is sealed under keys of people")
    rows = services.store.select(_sealed_under(fields or Fields(COLUMNS, ()))).rows
    asked = missing = 0
    for project, found in rows:
        wanted = {key_id for one in found if (key_id := key_of(MARK + one)) is not None}
        asked, missing = asked + len(wanted), missing + keys.missing(project, wanted)
    damaged = keys.damaged()
    if damaged:
        named = ", ".join(f"{many:,} of {project}" for project, many in sorted(damaged.items()))
        return Check(
            "person_keys",
            False,
            f"{damaged.total():,} keys are damaged ({named}): what was sealed under them shows as [NO KEY]",
            "their people have new keys for what they write now; to read the older texts, `twintrack backup`, stop, and"
            " `twintrack restore --replace --keys` a file of keys from before the damage",
        )
    if missing and not Erasures(services.control.engine).unfinished():
        return Check(
            "person_keys",
            False,
            f"{missing:,} of {asked:,} keys of texts of the last {_SEALED_DAYS} days are gone: these texts cannot be read",
            "where keys were lost: stop, and `twintrack restore --keys` a backup of them that is young enough",
        )
    being = f"; {missing:,} are gone, of who is being erased" if missing else ""
    return Check("person_keys", True, f"{keys.count():,} keys, {asked:,} of them of texts of the last days{being}")


def _sealed_under(fields: Fields) -> str:
    """Asks for the ids of the keys of each project's texts of the last days, in all of these fields.

    A list on the way of a path is sealed above it: not looked at, since anyone may send what reads like a token there.
    """
    single = [f"ifNull({name}, '')" for name in fields.columns]
    lists = []
    for path in fields.paths:
        place = ".".join(named(part) for part in path)
        single.append(f"ifNull(event_metadata.{place}.:String, '')")
        below = f"replaceAll(toJSONString(event_metadata.^{place}), '\\\\/', '/')"  # JSON escapes those of base64
        lists.append(f"""extractAll({below}, '"({MARK}[^"]+)"')""")
    texts = ", ".join([f"[{', '.join(single)}]", *lists])
    tokens = f"arrayFilter(text -> startsWith(text, '{MARK}'), arrayConcat({texts}))"
    ids = f"arrayMap(token -> substring(token, {len(MARK) + 1}, {ID_CHARACTERS}), {tokens})"
    return (
        f"SELECT project, groupUniqArrayArray({_MOST_KEYS})({ids}) FROM analytics.events"
        f" WHERE date >= today() - {_SEALED_DAYS} GROUP BY project"
    )


def _clock(services: Services) -> Check:
    now = services.clock.milliseconds()
    answer = services.store.select(
        "SELECT toUnixTimestamp64Milli(now64(3)), toUnixTimestamp64Milli(max(server_timestamp)) FROM analytics.events"
    )
    theirs, newest = answer.rows[0]
    if newest > now + _AHEAD_MILLISECONDS:
        return Check(
            "clock",
            False,
            f"the newest event arrived at {iso(newest)}, now it is {iso(now)}: the clock went back",
            "set the clock by NTP; ids are looked up in the store meanwhile",
        )
    if abs(theirs - now) > _SKEW_MILLISECONDS:
        return Check(
            "clock", False, f"the store's clock differs by {(theirs - now) / 1000:+.1f} s", "set both clocks by NTP"
        )
    return Check("clock", True, f"within {abs(theirs - now) / 1000:.1f} s of the store's")
