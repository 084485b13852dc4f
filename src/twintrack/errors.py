"""Every error that Twintrack raises on purpose, with the HTTP status and the code a caller may rely on.

    TwintrackError
    ├── RequestError          the sender's fault; sending the same again will not help
    ├── Unavailable           our fault or our disk's; send the same again after `retry_after_seconds`
    │   └── TooMany           a limit on how much may come at once; the same, answered 429
    ├── StoreError            the engine said no
    │   ├── StoreUnavailable  it is away: the same insert may work later
    │   │   ├── StoreBusy     it asks for less: too many parts, no memory, no space, read-only
    │   │   ├── StoreDenied   nobody but an operator mends it: password, grants, missing tables
    │   │   └── StoreUnclear  an answer that nobody foresaw: the store or this insert may be at fault
    │   └── StoreRefusedData  it will never take these rows
    ├── ChunkDamaged          a chunk's file is not what was frozen
    ├── DataFolderInUse       another process owns the data folder
    ├── SpoolFormat           the data folder belongs to another version
    ├── EncryptionKeyRefused  the data is sealed by a key that was not given
    ├── SealBroken            a sealed piece does not open: altered, or moved from elsewhere
    └── SettingsError         the configuration cannot be used

A message says what, which limit, and what to do. It never holds what a person sent.
"""


class TwintrackError(Exception):
    """The root: `code` is stable, `status` is its HTTP status, `hint` says what to do."""

    code = "internal"
    status = 500

    def __init__(self, message: str, *, hint: str = "", code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).code
        self.status = status or type(self).status

    def body(self) -> dict[str, dict[str, str]]:
        """The one JSON error shape of every route."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


class RequestError(TwintrackError):
    """The request cannot be served as it is. Do not retry."""

    code = "bad_request"
    status = 400


class Unavailable(TwintrackError):
    """Nothing of the request was kept. Retry after `retry_after_seconds`."""

    code = "unavailable"
    status = 503
    retry_after_seconds = 1


class TooMany(Unavailable):
    """More than the limit lets in. Nothing was kept; retry after `retry_after_seconds`."""

    code = "rate_limited"
    status = 429

    def __init__(self, message: str, *, hint: str = "", code: str = "", retry_after_seconds: int = 1) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after_seconds = retry_after_seconds


class StoreError(TwintrackError):
    """The engine answered with an error. `reason` is its code and symbolic name, where it gave one."""

    code = "store_error"
    status = 502

    def __init__(self, message: str, *, hint: str = "", code: str = "", status: int = 0, reason: str = "") -> None:
        super().__init__(message, hint=hint, code=code, status=status)
        self.reason = reason


class StoreUnavailable(StoreError):
    """The engine is away. Retry the same insert with the same token."""

    code = "store_unavailable"
    status = 503


class StoreBusy(StoreUnavailable):
    """The engine takes no more for now. Retry the same insert with the same token, after a long pause."""

    code = "store_busy"


class StoreDenied(StoreUnavailable):
    """The engine does not let us. Somebody must act; the same insert works then."""

    code = "store_denied"


class StoreUnclear(StoreUnavailable):
    """An answer that nobody foresaw. Retry; where other inserts pass meanwhile, these rows are at fault."""

    code = "store_unclear"


class StoreRefusedData(StoreError):
    """The engine will never take these rows. Do not retry; find the row."""

    code = "store_refused_data"


class DataFolderInUse(TwintrackError):
    """Another process holds the lock of the data folder."""

    code = "data_folder_in_use"
    status = 503


class ChunkDamaged(TwintrackError):
    """A chunk's file is gone or was changed by the disk. Its rows cannot be trusted; do not retry."""

    code = "chunk_damaged"


class SpoolFormat(TwintrackError):
    """The spool was written by a version whose format this one does not read. Nothing was changed."""

    code = "spool_format"
    status = 503


class EncryptionKeyRefused(TwintrackError):
    """What is kept here is sealed by another key than the one given, or none was given. Nothing was changed."""

    code = "encryption_key_refused"
    status = 503


class SealBroken(TwintrackError):
    """A sealed piece does not open: it was altered, or stands where it was not written. Do not retry."""

    code = "seal_broken"


class SettingsError(TwintrackError):
    """The configuration cannot be used; the message lists every fault at once."""

    code = "settings"
