"""The certificate that `serve` shows where it speaks TLS by itself, and its renewal without a restart."""

import asyncio
import ssl
from pathlib import Path

import structlog

from twintrack.errors import SettingsError

log = structlog.get_logger()
_LOOK_SECONDS = 5.0


class Certificate:
    """TLS 1.2 and 1.3, with the ciphers that Python's makers choose; connections that are open keep what they have."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises: SettingsError where the files are not there or do not belong together."""
        self._certificate, self._key = certificate, key
        self.context = self._read()
        self._seen = self._stamp()

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise SettingsError(
                f"TWINTRACK_TLS_CERTIFICATE and TWINTRACK_TLS_KEY cannot be used: {reason}",
                hint="PEM files of a chain, the server's certificate first, and of its key without a passphrase",
            ) from error
        return context

    def _stamp(self) -> tuple[int, ...]:
        return tuple(file.stat().st_mtime_ns for file in (self._certificate, self._key))

    def look(self) -> bool:
        """Takes renewed files up; whether there were any. What does not fit together is left until it does."""
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            self._read()  # on another context first: half a change must not reach the one in use
            self.context.load_cert_chain(self._certificate, self._key)
        except (OSError, SettingsError):
            log.warning("certificate_not_renewed", file=self._certificate.name)
            return False
        self._seen = stamp
        log.info("certificate_renewed", file=self._certificate.name)
        return True

    async def watch(self) -> None:
        """Looks every five seconds, until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look()
