"""The masking rules of a running server. Their file is looked at four times a second; a good change takes effect at once.

A file that is broken or gone changes nothing: the rules in force stay, and the fault is told. Nothing is unmasked meanwhile.
"""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from twintrack.errors import TwintrackError, Unavailable
from twintrack.pii.engine import Masker
from twintrack.pii.maskers import Maskers

log = structlog.get_logger()
_LOOK_SECONDS = 0.25
# Takes the outcome, `done` or `refused`, and what there is to say of it.
Recorded = Callable[[str, dict[str, str | int]], None]


class LiveMaskers:
    """The maskers in force, and what is wrong with the file where it is not what is in force.

    `told` hears of each change of the file: `loaded` or `refused`.
    Raises: SettingsError with every fault of the file, at the start only.
    """

    def __init__(self, path: Path | None, *, on: bool = True, told: Callable[[str], None] = lambda _: None) -> None:
        self._path, self._on, self._told = path, on, told
        self._recorded: Recorded = lambda _outcome, _detail: None
        self._in_force = self._refused = _content(path)
        self._maskers = Maskers(path, on=on)
        self.fault = ""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def from_file(self) -> bool:
        return self._path is not None

    def of(self, environment: str) -> Masker | None:
        """None where masking is switched off."""
        return self._maskers.of(environment)

    def start(self, recorded: Recorded) -> None:
        """Follows the file from now on, on a thread of its own.

        `recorded` is told of each change before it takes effect; while it raises Unavailable the rules in force stay.
        """
        self._recorded = recorded
        if self._path is not None and self._on:
            self._thread = threading.Thread(target=self._follow, name="masking-rules", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Takes over what the file holds now, or tells why not. A fault is told once for each content of the file."""
        content = _content(self._path)
        if content == self._in_force:
            self._refused, self.fault = content, ""
            return
        if content == self._refused and self.fault:
            return
        try:
            maskers = Maskers(self._path, on=self._on)
            maskers.compile()
        except TwintrackError as error:
            self._refuse(content, error.message)
        except Exception as error:  # whatever a file does to the engine, the rules in force stay
            self._refuse(content, f"they cannot be compiled ({type(error).__name__})")
        else:
            versions: dict[str, str | int] = {"from": _version(self._maskers), "to": _version(maskers)}
            if not self._record("done", content, versions):
                return
            self._maskers, self._in_force, self._refused, self.fault = maskers, content, content, ""
            log.info("masking_rules_loaded", version=versions["to"])
            self._told("loaded")

    def _refuse(self, content: bytes | None, fault: str) -> None:
        if not self._record("refused", content, {"from": _version(self._maskers)}):
            return
        self._refused, self.fault = content, fault
        log.error("masking_rules_refused", fault=fault, hint="the rules in force stay; mend the file")
        self._told("refused")

    def _record(self, outcome: str, content: bytes | None, versions: dict[str, str | int]) -> bool:
        """Whether it was kept. Else the file is looked at again. The digest tells apart files that name one version."""
        try:
            self._recorded(outcome, {**versions, "file": hashlib.sha256(content or b"").hexdigest()[:16]})
        except Unavailable as error:
            self.fault = error.message
            return False
        return True

    def _follow(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            self.look()


def _version(maskers: Maskers) -> str:
    masker = maskers.of("")
    return masker.version if masker else ""


def _content(path: Path | None) -> bytes | None:
    """None where there is no file, or none that can be read."""
    try:
        return path.read_bytes() if path is not None else None
    except OSError:
        return None
