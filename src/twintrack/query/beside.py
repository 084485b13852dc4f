"""What a period is compared with: itself, moved back. Pure.

A row of the other period is moved forward by as much and falls into the bucket that it stands beside. So the n-th bucket
stands beside the n-th, both periods are cut alike, and the one before ends where this one begins.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from twintrack.clock import instant, milliseconds_of
from twintrack.query.period import Period, Unit, floor, midnight

_BY_CLOCK = ("minute", "hour")
_ADD = {"day": "addDays", "month": "addMonths", "year": "addYears"}
_WEEKS_OF_A_YEAR = 52


class Move(NamedTuple):
    """So many milliseconds, or days, months or years of the zone's calendar, where the time of day stays."""

    unit: Literal["millisecond", "day", "month", "year"]
    steps: int

    def back(self, milliseconds: int, zone: str) -> int:
        """Where an instant comes to lie; of a day that is none there, the first instant behind it."""
        if self.unit == "millisecond":
            return milliseconds - self.steps
        here = ZoneInfo(zone)
        local = instant(milliseconds).astimezone(here)
        day, exists = self._day(local.date())
        if not exists or milliseconds == midnight(local.date(), here):
            return midnight(day, here)
        return milliseconds_of(datetime.combine(day, local.time(), here).astimezone(UTC))

    def _day(self, day: date) -> tuple[date, bool]:
        if self.unit == "day":
            return day - timedelta(days=self.steps), True
        months = day.year * 12 + day.month - 1 - self.steps * (12 if self.unit == "year" else 1)
        try:
            return day.replace(year=months // 12, month=months % 12 + 1), True
        except ValueError:
            months += 1
            return date(months // 12, months % 12 + 1, 1), False

    def moment(self, expression: str) -> str:
        """The time of a row, as SQL, moved forward."""
        return f"({expression} + toIntervalMillisecond({self.steps}))" if self.unit == "millisecond" else expression

    @property
    def days(self) -> str:
        """The day of a row, as SQL with `{}` for it, moved forward; 29 February counts for the 28th of another year."""
        return "{}" if self.unit == "millisecond" else f"{_ADD[self.unit]}({{}}, {self.steps})"


HERE = Move("millisecond", 0)


def before(of: Period, unit: Unit, edges: list[int]) -> Move:
    """To the period that ends where this one begins: as many whole months, or days, or milliseconds earlier."""
    if unit == "month" and (edges[0], edges[-1]) == (of.start, of.end):
        return Move("month", len(edges) - 1)
    return _apart(of.start, of.end, unit, of.zone)


def year_before(of: Period, unit: Unit) -> Move:
    """To the same dates a year earlier; of weeks, to the same weekdays 52 weeks earlier."""
    if unit == "week":
        return Move("day", 7 * _WEEKS_OF_A_YEAR)
    year = Move("year", 1)
    return Move("millisecond", of.start - year.back(of.start, of.zone)) if unit in _BY_CLOCK else year


def since(start: int, of: Period, unit: Unit) -> Move:
    """To a period as long that begins there; where both begin with a month and are shown by month, months."""
    if unit == "month" and all(floor(edge, unit, of.zone) == edge for edge in (start, of.start)):
        ours, theirs = (instant(edge).astimezone(ZoneInfo(of.zone)) for edge in (of.start, start))
        return Move("month", (ours.year - theirs.year) * 12 + ours.month - theirs.month)
    return _apart(start, of.start, unit, of.zone)


def _apart(first: int, second: int, unit: Unit, zone: str) -> Move:
    """From the second instant to the first one: by days where the time of day is the same."""
    (day, time), (other_day, other_time) = (_on_day(moment, zone) for moment in (first, second))
    if unit in _BY_CLOCK or time != other_time:
        return Move("millisecond", second - first)
    return Move("day", (other_day - day).days)


def _on_day(milliseconds: int, zone: str) -> tuple[date, time | None]:
    """The date, and the time of day where it is not the day's first instant."""
    here = ZoneInfo(zone)
    local = instant(milliseconds).astimezone(here)
    return local.date(), None if milliseconds == midnight(local.date(), here) else local.time()
