"""What a start records: that it was, by which version, and every setting that differs from the last start's."""

import asyncio
import contextlib
import hashlib
import os
import secrets
from pathlib import Path

import msgspec
import structlog
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from twintrack import __version__
from twintrack.control.control import Control
from twintrack.errors import Unavailable
from twintrack.privacy.audit import SERVICE, Audit
from twintrack.settings import Settings

log = structlog.get_logger()
_FILE = "settings.json"
_MOST_CHARACTERS = 500
_PUBLISH_SECONDS = 60.0
_MAY_HOLD_PASSWORDS = frozenset({"store", "control", "spool"})


class _Known(msgspec.Struct):
    """The settings of the last start; secrets as a slow hash, which says only whether they changed."""

    salt: str
    settings: dict[str, str]
    node: str = ""


def record_start(audit: Audit, control: Control, settings: Settings, masking_version: str) -> None:
    """Events are taken even where this cannot be recorded: reads and changes are refused then, one by one."""
    file = audit.folder / _FILE
    before = _read(file)
    kept, head = control.kept_audit_head(before.node or audit.node), audit.head()
    now = _Known(before.salt, _told(settings, before.salt, masking_version), audit.node)
    try:
        if kept is not None and (audit.node != (before.node or audit.node) or kept[0] > head.sequence):
            log.error("audit_cut", kept=kept[0], sequence=head.sequence)
            audit.record(SERVICE, "audit.cut", detail={"kept": kept[0], "kept_hash": kept[1], "found": head.sequence})
        audit.record(SERVICE, "service.start", detail={"version": __version__, "masking": masking_version})
        for name in sorted(now.settings.keys() | before.settings.keys()) if before.settings else ():
            old, new = before.settings.get(name, ""), now.settings.get(name, "")
            if old != new:
                detail: dict[str, str | int] = {"setting": name}
                if not _is_secret(settings, name):
                    detail |= {"from": old[:_MOST_CHARACTERS], "to": new[:_MOST_CHARACTERS]}
                audit.record(SERVICE, "settings.change", detail=detail)
        _write(file, now)
    except (Unavailable, OSError) as error:
        log.error("start_not_audited", kind=type(error).__name__)


def record_stop(audit: Audit, control: Control) -> None:
    with contextlib.suppress(Unavailable):
        audit.record(SERVICE, "service.stop")
    publish(audit, control)


def publish(audit: Audit, control: Control) -> None:
    """The head goes to the service's log and the control data, away from whoever can change the files."""
    head = audit.head()
    log.info("audit_head", sequence=head.sequence, hash=head.hash)
    try:
        control.keep_audit_head(audit.node, head.sequence, head.hash)
    except SQLAlchemyError as error:
        log.warning("audit_head_not_kept", kind=type(error).__name__)


async def publish_forever(audit: Audit, control: Control) -> None:
    """Each minute in which something was recorded, until it is cancelled."""
    told = 0
    while True:
        if audit.head().sequence != told:
            told = audit.head().sequence
            await asyncio.to_thread(publish, audit, control)
        await asyncio.sleep(_PUBLISH_SECONDS)


def _is_secret(settings: Settings, name: str) -> bool:
    return name in _MAY_HOLD_PASSWORDS or isinstance(getattr(settings, name, None), SecretStr)


def _told(settings: Settings, salt: str, masking_version: str) -> dict[str, str]:
    told = {"masking_version": masking_version}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        if text and _is_secret(settings, name):
            text = hashlib.scrypt(text.encode(), salt=bytes.fromhex(salt), n=1 << 14, r=8, p=1, dklen=16).hex()
        told[name] = text
    return told


def _read(file: Path) -> _Known:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Known)
    except (OSError, msgspec.DecodeError):
        return _Known(secrets.token_hex(16), {})


def _write(file: Path, known: _Known) -> None:
    beside = file.with_suffix(".new")
    handle = os.open(beside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as opened:
        opened.write(msgspec.json.encode(known))
        opened.flush()
        os.fsync(opened.fileno())
    beside.replace(file)
