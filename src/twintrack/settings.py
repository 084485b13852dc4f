"""Every setting in one table: name, unit, default, help. The only reader of the environment.

Order: `TWINTRACK_*` (and `TWINTRACK_*_FILE` for secrets) over a TOML file over the defaults below.
`docs/reference/settings.md` is generated from this class.
"""

import os
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from twintrack.errors import SettingsError
from twintrack.event import Limits
from twintrack.event import limits as contract_limits
from twintrack.seal import KeyRing, parse_keys
from twintrack.sealed_text import Fields, parse_fields

# What both languages hold themselves to; a server may be set lower, or higher up to each setting's ceiling.
_CONTRACT = contract_limits()
_PREFIX = "TWINTRACK_"
KEYS_FILE = "person_keys.db"
HIDDEN = "For the fault tests only."


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True)

    data: Path = Field(Path("data"), description="Folder of spool, control database and embedded store.")
    host: str = Field("127.0.0.1", description="Address that `serve` binds.")
    port: int = Field(8080, ge=0, le=65535, description="Port that `serve` binds; 0 takes a free one.")
    tls_certificate: str = Field(
        "", description="PEM file of the certificate that `serve` shows, with its chain; empty: a proxy speaks TLS."
    )
    tls_key: str = Field("", description="PEM file of the certificate's key. Both are read again when they change.")
    store: str = Field("", description="`chdb:///path` (empty: `DATA/store`) or `http(s)://user:password@host:8123`.")
    store_ca_file: str = Field("", description="File of certificates that sign the store's, PEM; empty: the system's.")
    store_verify: bool = Field(True, description="Check the store's certificate on `https`.")
    store_compression: Literal["zstd", "gzip", "none"] = Field(
        "zstd", description="How inserts into a server are packed; the embedded store takes them as they are."
    )
    store_connections: int = Field(16, ge=2, description="Connections to the store that are kept open.")
    store_connect_seconds: int = Field(10, ge=1, description="Longest wait for a connection to the store.")
    store_answer_seconds: int = Field(120, ge=1, description="Longest silence of the store during one request.")
    store_backoff_seconds: float = Field(
        30.0, gt=0, description="Longest pause before the store is tried again; four times this where it is full."
    )
    store_memory_bytes: int = Field(
        2 << 30,
        ge=256 << 20,
        description="Most memory of the embedded engine; beyond it queries fail and inserts wait.",
    )
    store_encrypted: bool = Field(
        False,
        description="Make the embedded store on an encrypted disk, by `TWINTRACK_ENCRYPTION_KEY`; only for a new folder.",
    )
    control: str = Field("", description="SQLAlchemy URL of the control data (empty: SQLite in `DATA`).")
    spool: str = Field(
        "local",
        description="`local`: the data folder, for one node; `kafka://host:9092,other:9092/topic` for several nodes"
        " (`?partitions=3&replication=3` serve to make the topic).",
    )
    load: bool = Field(
        True, description="Whether `serve` loads too. `false` where `twintrack load` does; needs a topic."
    )
    kafka_options: SecretStr = Field(
        SecretStr(""),
        description="Comma-separated librdkafka properties, such as `security.protocol=SASL_SSL,sasl.username=...`.",
    )
    kafka_timeout_seconds: float = Field(
        3.0, gt=0.1, description="How long a message may take before it goes to the fallback on this node's disk."
    )
    kafka_catch_up_messages: int = Field(
        200_000,
        ge=0,
        description="Messages that a loader reads again to complete its index of a partition; where more are missing,"
        " ids are looked up in the store until it was read.",
    )
    jwt_secret: SecretStr = Field(
        SecretStr(""), description="Secret of HS256 user tokens; empty: none of them is ever verified."
    )
    statsig_deletion_url: str = Field(
        "",
        description="Address of Statsig's user data deletion requests, as their page on it says; empty: an erasure leaves"
        " Statsig pending.",
    )
    statsig_deletion_key: SecretStr = Field(
        SecretStr(""), description="Server key of the Statsig project, for deletions."
    )
    jwt_keys: str = Field(
        "",
        description="Public keys of RS256, ES256 and EdDSA user tokens: file or `https://` address of a JWKS. Read again"
        " on an unknown `kid`, at most each 10 s; kept for an hour where it cannot be read.",
    )
    jwt_keys_seconds: float = Field(300.0, ge=10, description="Time after which the key set is read again.")
    jwt_audience: str = Field(
        "", description="Audience that user tokens must name; empty: a token that names one is not verified."
    )
    jwt_issuer: str = Field("", description="Issuer that user tokens must name; empty: any.")
    require_verified_ids: bool = Field(
        False, description="Refuse events whose `user_id` neither a token nor a server key verifies."
    )
    trusted_proxies: str = Field(
        "", description="Comma-separated networks whose `X-Forwarded-For` is believed, such as `10.0.0.0/8`."
    )
    allowed_origins: str = Field(
        "*", description="Comma-separated origins that may send events from a browser; `*` for all."
    )
    keep_full_address: bool = Field(False, description="Store client addresses uncut (default: /24 and /48).")
    encryption_key: SecretStr = Field(
        SecretStr(""),
        description="Seals spool, quarantine, control secrets and backups: 32 random bytes as base64 or hexadecimal"
        " (`openssl rand -base64 32`). docs/operations/encryption.md tells how it is changed.",
    )
    encryption_key_old: SecretStr = Field(
        SecretStr(""), description="Comma-separated keys that were used before; needed until a start rewrapped all."
    )
    sealed_fields: str = Field(
        "",
        description="Comma-separated fields that are stored sealed under a key of their person, which an erasure destroys:"
        " `message_content`, `event_value`, `page_url`, `page_path`, `page_title`, `referrer`, `event_metadata.PATH`; needs"
        " `TWINTRACK_ENCRYPTION_KEY`. docs/privacy.md tells what it means.",
    )
    erasure_days: int = Field(
        30, ge=1, description="Days after which an erasure holds everywhere: no backup of person keys is older."
    )
    masking: bool = Field(True, description="Mask personal data before the spool. Only tests switch it off.")
    masking_rules: str = Field(
        "",
        description="TOML file of masking actions, allow lists and rules of your own; docs/masking.md shows the form.",
    )
    id_window_days: int = Field(10, ge=1, le=90, description="How long an event id is remembered at the door, days.")
    index_bytes: int = Field(
        4 << 30, ge=1 << 20, description="Largest size of the index of event ids, bytes (sparse file)."
    )
    spool_bytes: int = Field(8 << 30, ge=1 << 20, description="Bytes of spool after which events are refused with 503.")
    segment_bytes: int = Field(64 << 20, ge=1 << 16, description="Size at which a log segment ends, bytes.")
    chunk_rows: int = Field(50_000, ge=1, le=200_000, description="Most rows of one insert.")
    chunk_age_milliseconds: int = Field(
        250, ge=0, description="Longest time an accepted event waits for company before its insert."
    )
    chunk_grace_bytes: int = Field(
        2 << 30, ge=0, description="Most bytes of loaded chunks' files that are kept; the oldest go first."
    )
    disk_reserve_bytes: int = Field(
        512 << 20, ge=0, description="Free disk below which events are refused with 503, bytes."
    )
    crash_point: str = Field("", description=HIDDEN)
    boot: str = Field("", description=HIDDEN)
    chunk_grace_seconds: int = Field(3600, ge=0, description="How long a loaded chunk's file is kept.")
    body_bytes: int = Field(
        _CONTRACT.body_bytes, ge=1024, le=64 << 20, description="Largest body of a request as sent, bytes."
    )
    inflated_bytes: int = Field(
        _CONTRACT.inflated_bytes, ge=1024, le=256 << 20, description="Largest body of a request inflated, bytes."
    )
    batch_events: int = Field(_CONTRACT.batch_events, ge=1, le=100_000, description="Most events of one request.")
    event_bytes: int = Field(
        _CONTRACT.event_bytes, ge=1024, le=4 << 20, description="Largest event as it is stored, bytes."
    )
    metadata_depth: int = Field(
        _CONTRACT.metadata_depth, ge=1, le=64, description="Deepest nesting of `event_metadata`, levels."
    )
    metadata_keys: int = Field(
        _CONTRACT.metadata_keys, ge=1, le=4096, description="Most keys of `event_metadata`, nested ones counted."
    )
    limit_person_per_minute: int = Field(
        1200,
        ge=0,
        description="Events a minute that one person may send under a `write` key; 0 for no limit. What is beyond is "
        "answered `retry`, event by event.",
    )
    limit_person_burst: int = Field(2000, ge=1, description="Events that one person may send at once after a pause.")
    limit_key_per_minute: int = Field(
        0, ge=0, description="Events a minute that one key may send; 0 for no limit. Beyond it: 429 with Retry-After."
    )
    limit_key_burst: int = Field(20_000, ge=1, description="Events that one key may send at once after a pause.")
    limit_address_per_minute: int = Field(
        0,
        ge=0,
        description="Requests a minute of one client address (IPv6: of one /64); 0 for no limit. Beyond it: 429 with "
        "Retry-After, before the body is read.",
    )
    limit_address_burst: int = Field(600, ge=1, description="Requests of one address at once after a pause.")
    limit_store: SecretStr = Field(
        SecretStr(""),
        description="Where the limits are counted: empty for this process's memory, `redis://host:6379/0` for many "
        "nodes together (needs `twintrack[redis]`).",
    )
    limit_buckets: int = Field(
        100_000, ge=100, le=10_000_000, description="People, keys and addresses counted at once in memory."
    )
    ingest_concurrency: int = Field(
        512, ge=1, description="Requests whose bodies have arrived and are not answered; more are answered 503."
    )
    ingest_buffer_bytes: int = Field(
        64 << 20,
        ge=1 << 20,
        description="Bytes of bodies held at once, as they arrive and inflated; beyond it: 503 with Retry-After.",
    )
    most_connections: int = Field(
        2048, ge=1, description="Open connections; another one is answered 503 and closed before it is read."
    )
    head_seconds: float = Field(
        10.0, gt=0, description="Longest time for the head of a request, from its connection's or its own first byte."
    )
    body_seconds: float = Field(30.0, gt=0, description="Longest time for the body of a request; then 408.")
    idle_seconds: float = Field(30.0, gt=0, description="How long a connection may wait for its next request.")
    spans: bool = Field(
        False,
        description="Send OpenTelemetry spans by OTLP to where the `OTEL_*` variables say; needs `twintrack[otel]`.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level that is logged: debug, info, warning or error."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`json` lines, `text` for people, or `auto`: text on a terminal, else json."
    )
    log_batches: Literal["all", "errors", "none"] = Field(
        "all", description="Which requests of ingest get a line in the log: all, those answered 400 to 599, or none."
    )
    query_seconds: float = Field(30.0, gt=0, description="Longest run of one SQL query.")
    query_result_rows: int = Field(100_000, ge=1, description="Most rows of one SQL answer.")
    query_file_rows: int = Field(5_000_000, ge=1, description="Most rows of one SQL answer as a file.")
    query_file_bytes: int = Field(
        4 << 30,
        ge=1 << 20,
        description="Most bytes of files that wait on the disk for those who download them, all together; half of it for one"
        " asker.",
    )
    query_memory_bytes: int = Field(1 << 30, ge=1 << 20, description="Most memory of one SQL query.")
    query_cache_answers: int = Field(
        500, ge=0, description="Most answers of questions that are kept while their data does not change; 0 for none."
    )
    session_days: int = Field(14, ge=1, description="Life of a dashboard session, days.")
    session_idle_minutes: int = Field(
        720, ge=1, description="A dashboard session that was not used for so long ends, minutes."
    )
    public_url: str = Field(
        "",
        description="Where browsers reach the dashboard, such as `https://analytics.example.com`; for links, and for"
        " cookies of https where a proxy speaks it.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in filter(None, (p.strip() for p in value.split(","))):
            ip_network(part)
        return value

    @field_validator("sealed_fields")
    @classmethod
    def _sealed_fields(cls, value: str) -> str:
        parse_fields(value)
        return value

    @model_validator(mode="after")
    def _sealed_by_a_key(self) -> "Settings":
        if self.sealed_fields and not self.encryption_key.get_secret_value():
            raise ValueError("sealed_fields needs an encryption_key: the keys of people are wrapped by it")
        return self

    @property
    def sealed(self) -> Fields | None:
        """What is sealed under keys of people; None for nothing."""
        return parse_fields(self.sealed_fields)

    @field_validator("encryption_key", "encryption_key_old")
    @classmethod
    def _keys(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        keys = parse_keys(value.get_secret_value())
        if info.field_name == "encryption_key" and len(keys) > 1:
            raise ValueError("one key; older ones belong in TWINTRACK_ENCRYPTION_KEY_OLD")
        return value

    @property
    def key_ring(self) -> KeyRing | None:
        """None where nothing is sealed."""
        keys = parse_keys(self.encryption_key.get_secret_value())
        return KeyRing(keys[0], parse_keys(self.encryption_key_old.get_secret_value())) if keys else None

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (
            parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or "@" in value
        ):
            raise ValueError("must be http(s)://host[:port]")
        return value.rstrip("/")

    @field_validator("spool")
    @classmethod
    def _spool(cls, value: str) -> str:
        if value != "local" and not value.startswith("kafka://"):
            raise ValueError("`local` or `kafka://host:9092/topic`")
        return value

    @field_validator("kafka_options")
    @classmethod
    def _properties(cls, value: SecretStr) -> SecretStr:
        if any("=" not in part for part in filter(None, value.get_secret_value().split(","))):
            raise ValueError("property=value,property=value")
        return value

    @property
    def kafka_properties(self) -> dict[str, str]:
        parts = filter(None, self.kafka_options.get_secret_value().split(","))
        return {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in parts)}

    @field_validator("store")
    @classmethod
    def _store(cls, value: str) -> str:
        parts = urlsplit(value)
        try:
            server = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")
            known = not value or server or (parts.scheme == "chdb" and parts.path)
            _ = parts.port
        except ValueError:
            known = False  # its words would quote what may be half a password
        if not known:
            raise ValueError(
                "must be chdb:///path, http://user:password@host:8123 or https://user:password@host:8443"
                " (percent-encode what is special in a password)"
            )
        return value

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> "Settings":
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key go together; set both or none")
        return self

    @model_validator(mode="after")
    def _largest_body_fits(self) -> "Settings":
        """A body within its own limit must never be told to come again for ever."""
        least = 2 * (self.body_bytes + self.inflated_bytes)
        if self.ingest_buffer_bytes < least:
            raise ValueError(
                f"ingest_buffer_bytes is less than twice body_bytes and inflated_bytes together; set it to {least}"
            )
        return self

    @property
    def limits(self) -> Limits:
        """The contract's limits as this server has them."""
        names = ("body_bytes", "inflated_bytes", "batch_events", "event_bytes", "metadata_depth", "metadata_keys")
        return msgspec.structs.replace(_CONTRACT, **{name: getattr(self, name) for name in names})

    @property
    def store_url(self) -> str:
        return self.store or f"chdb://{(self.data / 'store').resolve()}"

    @property
    def control_url(self) -> str:
        return self.control or f"sqlite:///{(self.data / 'control.db').resolve()}"

    @property
    def person_keys_url(self) -> str:
        """Beside the control data, never in its file: a backup of that has no key."""
        if self.control.startswith("sqlite"):
            file, mark, options = self.control.partition("?")
            return f"{file}.person_keys{mark}{options}"
        return self.control or f"sqlite:///{(self.data / KEYS_FILE).resolve()}"


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """The settings of this process.

    Raises: SettingsError with every fault of environment and file at once.
    """
    values: dict[str, Any] = {}
    if config is not None:
        try:
            values.update(tomllib.loads(config.read_text()))
        except OSError as error:
            raise SettingsError(f"cannot read the configuration file: {error.strerror}", hint=str(config)) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"the configuration file is not TOML: {error}", hint=str(config)) from error
    faults = []
    for name, path in os.environ.items():
        if name.startswith(_PREFIX) and name.endswith("_FILE"):
            try:
                values[name[len(_PREFIX) : -len("_FILE")].lower()] = Path(path).read_text().strip()
            except OSError as error:
                faults.append(f"{name}: cannot read {path}: {error.strerror}")
            except UnicodeDecodeError:
                faults.append(f"{name}: {path} is not UTF-8 text")
    for name in Settings.model_fields:
        if _PREFIX + name.upper() in os.environ:
            values.pop(name, None)
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        settings = Settings(**values)
    except ValidationError as error:
        faults += [f"{_PREFIX}{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
    if faults:
        raise SettingsError("; ".join(faults), hint="docs/reference/settings.md lists every setting")
    return settings
