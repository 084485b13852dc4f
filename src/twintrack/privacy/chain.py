"""The audit log on disk: one line a record, each bound to the one before it. Read by anybody, without any service.

    HASH JSON       HASH is the SHA-256 of the JSON's bytes, which hold the hash of the line before (`before`)

Fields stand in one order and are encoded in one way, but a check never encodes again: it hashes the bytes that are there.
A chain is one node's. Whoever can write the files can also write a new chain, so its head is published (metrics, the
service's log, the control data): a chain that lacks a published head was cut or rewritten.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

FIRST_BEFORE = "0" * 64
_NAME = re.compile(r"(\d{12})\.audit")


class Entry(msgspec.Struct, frozen=True):
    """One record. No field ever holds what a person sent: a subject is an HMAC, SQL has no literals."""

    sequence: int
    at: str
    node: str
    who: str  # id of a key, or `operator` for who holds the data folder; empty where nobody signed in
    role: str
    project: str
    environment: str
    what: str
    outcome: str  # done, begun, or the code of the error it ended with
    where: str  # the address, cut as configured; `socket` for a command
    rows: int | None
    subject: str
    detail: dict[str, str | int]
    before: str


class Head(NamedTuple):
    """The last record: what a published copy is compared with."""

    sequence: int
    hash: str

    @property
    def number(self) -> int:
        """The first 48 bits of the hash, which a metric can hold exactly."""
        return int(self.hash[:12], 16)


class Line(NamedTuple):
    """A line of a file, whole or not."""

    file: str
    number: int  # from 1
    entry: Entry | None  # None where the line is not what its hash says
    hash: str
    end: int  # the offset behind it


class Fault(NamedTuple):
    """The first record that is not as it was written."""

    sequence: int
    file: str
    line: int
    what: str


class Verdict(NamedTuple):
    records: int  # whole ones, up to the fault
    head: Head
    fault: Fault | None


_decode = msgspec.json.Decoder(Entry).decode


def encode(entry: Entry) -> tuple[bytes, str]:
    """The line, and its hash."""
    text = msgspec.json.encode(entry)
    digest = hashlib.sha256(text).hexdigest()
    return digest.encode() + b" " + text + b"\n", digest


def files(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(path for path in folder.glob("*.audit") if _NAME.fullmatch(path.name))


def next_file(folder: Path) -> Path:
    """A name that stands behind all others."""
    newest = max((int(path.stem) for path in files(folder)), default=0)
    return folder / f"{newest + 1:012d}.audit"


def lines(file: Path) -> Iterator[Line]:
    """Every line of a file; the last one has no record where its end is missing."""
    offset = 0
    with file.open("rb") as opened:
        for number, raw in enumerate(opened, 1):
            offset += len(raw)
            digest, _, text = raw.partition(b" ")
            whole = raw.endswith(b"\n") and hashlib.sha256(text[:-1]).hexdigest().encode() == digest
            try:
                entry = _decode(text) if whole else None
            except (msgspec.DecodeError, UnicodeDecodeError):
                entry = None
            yield Line(file.name, number, entry, digest.decode("ascii", "replace"), offset)


def check(found: Iterator[Line]) -> Verdict:
    """Follows a chain from its first record to the first fault. Pure.

    A record that was changed is named itself. One that was taken out or put elsewhere is named by its place: the
    sequence that should stand there. One whose hash was made anew is found by the next record, and named.
    """
    head, file, number = Head(0, FIRST_BEFORE), "", 0
    for line in found:
        expected, entry = head.sequence + 1, line.entry
        file, number = line.file, line.number

        def fault(
            what: str, sequence: int = expected, head: Head = head, file: str = file, number: int = number
        ) -> Verdict:
            return Verdict(head.sequence, head, Fault(sequence, file, number, what))

        if entry is None:
            return fault("was altered, or is unfinished: the line is not what its hash says")
        if entry.sequence > expected:
            return fault(f"is missing: record {entry.sequence} stands in its place")
        if entry.sequence < expected:
            return fault(f"is not there: record {entry.sequence} stands in its place a second time", entry.sequence)
        if entry.before != head.hash:
            if not head.sequence:
                return fault("was altered: the first record follows nothing")
            return fault(f"was altered: record {expected} was written behind another one", head.sequence)
        head = Head(expected, line.hash)
    return Verdict(head.sequence, head, None)


def verify(folder: Path, published: str = "") -> Verdict:
    """Checks all files of a folder; with a published head also that the chain still holds it.

    Shape: `published` is the beginning of a hash, 12 or more hexadecimal digits, or `SEQUENCE:NUMBER` of the metrics.
    """
    seen = Head(0, "")
    wanted = _wanted(published) if published else None

    def watched() -> Iterator[Line]:
        nonlocal seen
        for file in files(folder):
            for line in lines(file):
                if wanted is not None and line.entry is not None and wanted.matches(line):
                    seen = Head(line.entry.sequence, line.hash)
                yield line

    verdict = check(watched())
    if verdict.fault is None and wanted is not None and not seen.sequence:
        at = wanted.sequence or verdict.head.sequence + 1
        what = (
            "is missing: the chain ends before the published head"
            if at > verdict.head.sequence
            else "was rewritten: it is not the one that was published"
        )
        return verdict._replace(fault=Fault(at, "", 0, what))
    return verdict


class _Wanted(NamedTuple):
    sequence: int  # 0 where only the hash is known
    prefix: str

    def matches(self, line: Line) -> bool:
        sequence = line.entry.sequence if line.entry is not None else 0
        return line.hash.startswith(self.prefix) and self.sequence in (0, sequence)


def _wanted(published: str) -> _Wanted:
    """Raises: ValueError for what is no head."""
    sequence, colon, number = published.strip().lower().partition(":")
    if colon:
        return _Wanted(int(sequence), f"{int(float(number)):012x}")
    if not re.fullmatch(r"[0-9a-f]{12,64}", sequence):
        raise ValueError("a head is 12 to 64 hexadecimal digits, or SEQUENCE:NUMBER as the metrics have it")
    return _Wanted(0, sequence)
