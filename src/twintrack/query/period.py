"""Ranges of time and their buckets, in a zone. Pure; what state a bucket is in is decided here.

A range is `{"last": 30, "unit": "day"}` (that many calendar units of the zone, the unfinished one among them), or
`{"from": ..., "to": ...}`: days of the zone, both included, or instants with an offset, the second one excluded.

A bucket that begins after now, or that ended before the project's first event, is a gap: nothing is known of it, so its
value is null. Where events have expired, a number is of what is left, and none left is null too: there may have been some.
Elsewhere a count of nothing is a true 0.
"""

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from twintrack.clock import EPOCH, instant, milliseconds_of
from twintrack.query.compile.statement import Parameters
from twintrack.query.scope import Scope, refused

Unit = Literal["minute", "hour", "day", "week", "month"]
_Value = TypeVar("_Value")
MOST_BUCKETS = 2_000
_MOST_YEARS = 20
_FIXED = {"minute": 60, "hour": 3600}
_EARLIEST = date(2000, 1, 1)
# An interval for a range of at most so many days, where none is asked for.
_FITTING: tuple[tuple[float, Unit], ...] = ((0.125, "minute"), (3, "hour"), (92, "day"), (370, "week"))


# Names that a machine may have beside those of IANA: the first is another zone on each, the second is none.
_ZONES = available_timezones() - {"localtime", "Factory"}


def _zone(name: str) -> str:
    if name not in _ZONES:
        raise refused(f"there is no time zone {name[:60]!r}", "name one of IANA's, such as Europe/Berlin")
    return name


Zone = Annotated[str, Field(max_length=60, description="IANA time zone of days and hours."), AfterValidator(_zone)]


class Range(BaseModel):
    """`{"last": 30, "unit": "day"}` or `{"from": "2026-01-01", "to": "2026-01-31"}`."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    last: int | None = Field(None, ge=1, le=10_000, description="So many units, the present one among them.")
    unit: Unit = Field("day", description="Unit of `last`.")
    complete: bool = Field(False, description="With `last`: leave the present, unfinished unit out.")
    since: str | None = Field(
        None, alias="from", max_length=40, description="First day, or first instant with an offset."
    )
    until: str | None = Field(
        None, alias="to", max_length=40, description="Last day (included), or the instant at which it ends."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> "Range":
        if (self.last is None) == (self.since is None):
            raise refused(
                "a range is either `last` or `from` and `to`",
                'say {"last": 30, "unit": "day"} or {"from": "2026-01-01", "to": "2026-01-31"}',
                "bad_range",
            )
        unused = ["to"] if self.last is not None and self.until is not None else []
        if self.since is not None:
            unused = [name for name, said in (("complete", self.complete), ("unit", self.unit != "day")) if said]
        if unused:
            raise refused(
                f"`{unused[0]}` says nothing beside `{'last' if self.since is None else 'from'}`",
                "`last` counts `unit`s back from now, with `complete` without the present one;"
                " a range with an end of its own is `from` and `to`",
                "bad_range",
            )
        return self


class Bucket(NamedTuple):
    """One step of a series. Milliseconds since 1970; `state` is whole, cut, unfinished, expired or gap."""

    start: int
    end: int
    state: str


class Period(NamedTuple):
    """A range that has been worked out: [start, end), milliseconds since 1970, in a zone."""

    start: int
    end: int
    zone: str

    @property
    def days(self) -> float:
        return (self.end - self.start) / 86_400_000

    def within(self, p: Parameters, moment: str = "event_timestamp", day: str = "date") -> str:
        """The condition that a row lies inside; also by the column of days that the table is ordered by."""
        first, last = instant(self.start).date(), instant(self.end - 1).date()
        return (
            f"{day} BETWEEN {p.day(first.isoformat())} AND {p.day(last.isoformat())}"
            f" AND {moment} >= {p.moment(self.start)} AND {moment} < {p.moment(self.end)}"
        )

    def until(self, p: Parameters) -> str:
        """The condition that a row lies inside or before."""
        last = instant(self.end - 1).date()
        return f"date <= {p.day(last.isoformat())} AND event_timestamp < {p.moment(self.end)}"

    def words(self) -> str:
        zone = ZoneInfo(self.zone)
        first, last = (instant(m).astimezone(zone).strftime("%Y-%m-%d %H:%M") for m in (self.start, self.end))
        return f"from {first} to {last} ({self.zone})"


def resolve(asked: Range, zone: str, now_milliseconds: int) -> Period:
    """Raises: RequestError for a range that is empty, backwards, longer than 20 years or before 2000."""
    here = ZoneInfo(zone)
    if asked.last is not None:
        if asked.unit in _FIXED:
            step = _FIXED[asked.unit] * 1000
            start_of_unit = floor(now_milliseconds, asked.unit, zone)
            period = Period(start_of_unit - (asked.last - 1) * step, start_of_unit + step, zone)
            shift = -step
            if asked.complete:
                period = Period(period.start + shift, period.end + shift, zone)
        else:
            today = _day_of(now_milliseconds, here, asked.unit)
            ends = 0 if asked.complete else 1
            first, last = (_add(today, asked.unit, n) for n in (ends - asked.last, ends))
            period = Period(midnight(first, here), midnight(last, here), zone)
    else:
        until = _edge(asked.until, here, last=True) if asked.until else now_milliseconds
        period = Period(_edge(asked.since or "", here, last=False), until, zone)
    if period.end <= period.start:
        raise refused("the range ends before it begins", "`from` must come before `to`", "bad_range")
    if period.days > _MOST_YEARS * 366 or period.start < milliseconds_of(
        datetime.combine(_EARLIEST, time(), UTC) - timedelta(days=1)
    ):
        raise refused(
            f"the range is longer than {_MOST_YEARS} years or begins before {_EARLIEST.year}",
            "ask for a shorter one",
            "bad_range",
        )
    if period.end > now_milliseconds + 400 * 86_400_000:
        raise refused("the range ends more than 400 days from now", "nothing happened there yet", "bad_range")
    return period


def fitting(period: Period) -> Unit:
    """The interval that shows a range in some 30 to 180 steps."""
    return next((unit for most, unit in _FITTING if period.days <= most), "month")


def buckets(period: Period, unit: Unit, scope: Scope) -> list[Bucket]:
    """Raises: RequestError where there are more than 2,000."""
    return between(edges(period, unit), period, scope)


def edges(period: Period, unit: Unit) -> list[int]:
    """Where the buckets that cover a period begin, and where the last one ends. Raises: as `buckets`."""
    about = (
        period.days * 86_400 / {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 2_592_000}[unit]
    )
    if about > MOST_BUCKETS + 2:
        raise refused(
            f"{round(about):,} steps of one {unit} are too many",
            f"at most {MOST_BUCKETS:,}: ask for a longer interval or a shorter range",
            "too_many_buckets",
        )
    found = [floor(period.start, unit, period.zone)]
    while found[-1] < period.end:
        found.append(following(found[-1], unit, period.zone))
    return found


def between(edges: list[int], period: Period, scope: Scope) -> list[Bucket]:
    """The buckets between such edges; of rows inside the period, which may cut the first and the last of them."""
    return [Bucket(start, end, _state(start, end, period, scope)) for start, end in pairwise(edges)]


def _state(start: int, end: int, period: Period, scope: Scope) -> str:
    now, first = scope.now_milliseconds, scope.first_milliseconds
    if start > now or first is None or end <= first or start == end:
        return "gap"
    if max(start, period.start) < scope.complete_milliseconds:
        return "expired"
    if end > now:
        return "unfinished"
    return "cut" if start < period.start or end > period.end else "whole"


def state_of(period: Period, scope: Scope) -> str:
    """The state that a number of the whole period is in: whole or expired."""
    return "expired" if period.start < scope.complete_milliseconds else "whole"


def known(value: _Value, state: str) -> _Value | None:
    """The number as an answer shows it: null in a gap, and where none is left of what may have expired."""
    return None if state == "gap" or (state == "expired" and not value) else value


def floor(milliseconds: int, unit: Unit, zone: str) -> int:
    """The start of the unit around an instant. Hours and minutes are those of the wall clock."""
    here = ZoneInfo(zone)
    if unit in _FIXED:
        local = instant(milliseconds).astimezone(here)
        into = local.second if unit == "minute" else local.minute * 60 + local.second
        return milliseconds - into * 1000 - milliseconds % 1000
    return midnight(_day_of(milliseconds, here, unit), here)


def following(start: int, unit: Unit, zone: str, steps: int = 1) -> int:
    """The start of the bucket so many steps later; negative steps go back. Hours are counted, days are the zone's."""
    if unit in _FIXED:
        return start + steps * _FIXED[unit] * 1000
    here = ZoneInfo(zone)
    return midnight(_add(_day_of(start, here, unit), unit, steps), here)


def index(p: Parameters, unit: Unit, start: int, zone: str, moment: str = "event_timestamp", days: str = "{}") -> str:
    """The expression of a row's bucket, 0 for the one that begins at `start`; of rows from there on only.

    Days are told by the engine, in the zone. Shape: `days` makes of the day of a row the one that it counts for.
    """
    if unit in _FIXED:
        return f"toInt64(intDiv(toUnixTimestamp64Milli({moment}) - {p.whole(start)}, {_FIXED[unit] * 1000}))"
    first = p.day(instant(start).astimezone(ZoneInfo(zone)).date().isoformat())
    day = days.format(f"toDate({moment}, {p.text(zone)})")
    if unit == "month":
        return f"toInt64(dateDiff('month', {first}, {day}))"
    passed = f"dateDiff('day', {first}, {day})"
    return f"toInt64({passed})" if unit == "day" else f"toInt64(intDiv({passed}, 7))"


def _edge(text: str, here: ZoneInfo, *, last: bool) -> int:
    try:
        if len(text) == 10:
            day = date.fromisoformat(text)
            return midnight(day + timedelta(days=1) if last else day, here)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=here)
        return milliseconds_of(moment)
    except OverflowError:
        raise refused(
            "the range reaches beyond the years that there are", "ask for a shorter one", "bad_range"
        ) from None
    except ValueError:
        raise refused(
            "`from` and `to` are days or instants that there are",
            "write 2026-01-31 or 2026-01-31T09:00:00Z",
            "bad_range",
        ) from None


def _day_of(milliseconds: int, here: ZoneInfo, unit: str) -> date:
    """The first day of the day, week (from Monday) or month around an instant."""
    day = instant(milliseconds).astimezone(here).date()
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit == "month" else day


def _add(day: date, unit: str, steps: int) -> date:
    if unit == "month":
        months = day.year * 12 + day.month - 1 + steps
        return date(months // 12, months % 12 + 1, 1)
    return day + timedelta(days=steps * (7 if unit == "week" else 1))


def midnight(day: date, here: ZoneInfo) -> int:
    """The first instant of a day: where the clock jumps over midnight, the instant of the jump."""
    noon = datetime.combine(day, time(12), here).astimezone(UTC)
    found = datetime.combine(day, time(), here).astimezone(UTC)
    before = noon - timedelta(hours=18)
    # A midnight that does not exist, or comes twice: the day begins where the local date becomes this one.
    if found.astimezone(here).date() != day or (found - timedelta(seconds=1)).astimezone(here).date() == day:
        low, high = before, noon
        while high - low > timedelta(seconds=1):
            middle = low + (high - low) / 2
            low, high = (low, middle) if middle.astimezone(here).date() >= day else (middle, high)
        found = high.replace(microsecond=0)
    return milliseconds_of(found) if found >= EPOCH else 0
