"""Receipts, judged one by one: a bad one costs itself alone and never an event. Pure. Outside the balance of events.

A receipt that comes twice is one row: the table keeps one for each (project, event_id, vendor, status).
"""

from collections import Counter
from typing import NamedTuple

import msgspec

from twintrack.clock import milliseconds_of, month_of
from twintrack.event import RECEIPT_STATUSES, VENDORS, Limits, ReceiptRow, RequestContext, WireReceipt

_ENCODER = msgspec.json.Encoder()


class Judged(NamedTuple):
    rows: list[tuple[int, bytes]]  # (month, row)
    counts: Counter[str]  # by what became of them, as `metrics.RECEIPTS` lists it


def judge(receipts: list[WireReceipt], context: RequestContext, limits: Limits) -> Judged:
    """The rows of what a vendor of ours can have done, and how many of the rest there are by what is wrong."""
    rows: list[tuple[int, bytes]] = []
    counts: Counter[str] = Counter()
    oldest = context.received_milliseconds - limits.event_age_days * 86_400_000
    newest = context.received_milliseconds + limits.event_future_hours * 3_600_000
    for receipt in receipts:
        at = milliseconds_of(receipt.at) + context.skew_milliseconds
        if receipt.vendor not in VENDORS:
            counts["unknown_vendor"] += 1
        elif receipt.status not in RECEIPT_STATUSES:
            counts["unknown_status"] += 1
        elif not oldest <= at <= newest:
            counts["impossible_time"] += 1
        else:
            counts["accepted"] += 1
            row = ReceiptRow(
                context.tenancy.project,
                context.tenancy.environment,
                receipt.event_id,
                receipt.vendor,
                receipt.status,
                at / 1000,
                context.received_milliseconds / 1000,
            )
            rows.append((month_of(row.at), _ENCODER.encode(row)))
    return Judged(rows, counts)
