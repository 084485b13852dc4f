"""What ClickHouse's answers mean for whoever asked: wait, wait long, call somebody, look at the rows. Pure.

An answer is read by its code, not by its words: the engine's words about an insert may quote rows, so of those only
the code and its symbolic name are ever passed on.
Source: ClickHouse, src/Common/ErrorCodes.cpp; the names are part of its answers since 21.
"""

import re

from twintrack.errors import (
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreRefusedData,
    StoreUnavailable,
    StoreUnclear,
)

# The rows cannot be read or do not fit their columns: no retry mends that.
REFUSED = {
    6: "CANNOT_PARSE_TEXT",
    25: "CANNOT_PARSE_ESCAPE_SEQUENCE",
    26: "CANNOT_PARSE_QUOTED_STRING",
    27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
    38: "CANNOT_PARSE_DATE",
    41: "CANNOT_PARSE_DATETIME",
    53: "TYPE_MISMATCH",
    69: "ARGUMENT_OUT_OF_BOUND",
    70: "CANNOT_CONVERT_TYPE",
    72: "CANNOT_PARSE_NUMBER",
    117: "INCORRECT_DATA",
    131: "TOO_LARGE_STRING_SIZE",
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    376: "CANNOT_PARSE_UUID",
    407: "DECIMAL_OVERFLOW",
    441: "CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING",
    467: "CANNOT_PARSE_BOOL",
    469: "VIOLATED_CONSTRAINT",
    675: "CANNOT_PARSE_IPV4",
    676: "CANNOT_PARSE_IPV6",
}
# It is there and takes nothing for now; asking often makes that worse.
BUSY = {
    164: "READONLY",
    201: "QUOTA_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    439: "CANNOT_SCHEDULE_TASK",
}
# Of the whole server, or only for as many rows at once: what passes meanwhile tells, and halves may pass.
UNCLEAR = {241: "MEMORY_LIMIT_EXCEEDED"}
# Somebody must act: a password, a grant, a migration, a setting the server does not know.
DENIED = {
    8: "THERE_IS_NO_COLUMN",
    16: "NO_SUCH_COLUMN_IN_TABLE",
    60: "UNKNOWN_TABLE",
    81: "UNKNOWN_DATABASE",
    115: "UNKNOWN_SETTING",
    192: "UNKNOWN_USER",
    193: "WRONG_PASSWORD",
    194: "REQUIRED_PASSWORD",
    195: "IP_ADDRESS_NOT_ALLOWED",
    291: "DATABASE_ACCESS_DENIED",
    452: "SETTING_CONSTRAINT_VIOLATION",
    497: "ACCESS_DENIED",
    516: "AUTHENTICATION_FAILED",
}
# It is going, coming or out of reach of a part of itself; also what it says to a body that was cut on its way.
AWAY = {
    3: "UNEXPECTED_END_OF_FILE",
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    33: "CANNOT_READ_ALL_DATA",
    95: "CANNOT_READ_FROM_SOCKET",
    96: "CANNOT_WRITE_TO_SOCKET",
    159: "TIMEOUT_EXCEEDED",
    203: "NO_FREE_CONNECTION",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",
    279: "ALL_CONNECTION_TRIES_FAILED",
    285: "TOO_FEW_LIVE_REPLICAS",
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    319: "UNKNOWN_STATUS_OF_INSERT",
    354: "ZLIB_INFLATE_FAILED",
    394: "QUERY_WAS_CANCELLED",
    561: "ZSTD_DECODER_FAILED",
    999: "KEEPER_EXCEPTION",
    1000: "POCO_EXCEPTION",
}
_DRIVERS_WORDS = re.compile(
    r"^Received ClickHouse exception, code: \d+(?:, server response: )?|\s*\(for url [^)]*\)|"
    r"(?:Code: \d+\. )?DB::Exception: |\s*\(version [^)]*(?:\([^)]*\))?[^)]*\)"
)
_MOST_CHARACTERS = 400


def reason(code: int, name: str | None = None) -> str:
    """`TOO_MANY_PARTS (252)`."""
    known = REFUSED.get(code) or BUSY.get(code) or UNCLEAR.get(code) or DENIED.get(code) or AWAY.get(code)
    return f"{known or name or 'unknown'} ({code})"


def insert_error(code: int | None, name: str | None, status: int | None) -> StoreError:
    """What a failed insert means; of the engine's words only code and name."""
    if code is None:
        if status is not None and 400 <= status < 500 and status not in (401, 403, 408, 429):
            return StoreUnclear(f"what stands before the store answered {status}", hint="it is tried again")
        if status in (401, 403):
            return StoreDenied(f"what stands before the store answered {status}", hint="see TWINTRACK_STORE")
        return StoreUnavailable("the store cannot be reached", hint="see TWINTRACK_STORE; events wait in the spool")
    why = reason(code, name)
    if code in REFUSED:
        return StoreRefusedData(f"the store refused the rows: {why}", hint="the rows are bisected", reason=why)
    if code in BUSY:
        return StoreBusy(
            f"the store takes no inserts for now: {why}", hint=_ADVICE.get(code, "events wait in the spool")
        )
    if code in DENIED:
        return StoreDenied(f"the store does not let us insert: {why}", hint=_ADVICE.get(code, "see its grants"))
    if code in AWAY:
        return StoreUnavailable(f"the store did not take the insert: {why}", hint="it is tried again")
    return StoreUnclear(f"the store did not take the insert: {why}", hint="it is tried again")


def read_error(code: int | None, name: str | None, words: str) -> StoreError:
    """What a failed read means. The words are the engine's: they quote the question, which the asker knows."""
    if code is None:
        return StoreUnavailable("the store cannot be reached", hint="see TWINTRACK_STORE; ask again in a moment")
    if code in (192, 193, 194, 195, 516):
        return StoreDenied(f"the store does not let us in: {reason(code, name)}", hint=_ADVICE[516])
    if code in (203, 209, 210, 236, 279):
        return StoreUnavailable(f"the store did not answer: {reason(code, name)}", hint="ask again in a moment")
    return StoreError(
        plain_words(words),
        hint=_READ_ADVICE.get(code, "the words are the engine's"),
        code="query_failed",
        status=400,
        reason=reason(code, name),
    )


def plain_words(words: str) -> str:
    """The engine's own sentence, without the driver's frame, address and version."""
    return _DRIVERS_WORDS.sub("", words.split("\n")[0]).strip()[:_MOST_CHARACTERS]


_READ_ADVICE = {427: "patterns are RE2's: no look-around", 456: "send its value in `parameters`"}
_ADVICE = {
    60: "run `twintrack migrate`",
    81: "run `twintrack migrate`",
    8: "run `twintrack migrate`",
    16: "run `twintrack migrate`",
    115: "the server is older than 26.2; upgrade it",
    497: "give the user the grants of docs/operations/clickhouse.md",
    516: "check user and password in TWINTRACK_STORE",
    193: "check user and password in TWINTRACK_STORE",
    243: "free space on the store's disk",
    252: "inserts come faster than parts merge; fewer months at once, or a faster disk",
}
