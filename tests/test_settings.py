"""Settings: environment over file over default, every fault at once, and no secret where it could be read."""

from pathlib import Path
from typing import Any

import pytest

from twintrack.errors import SettingsError
from twintrack.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own settings do not reach these tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TWINTRACK_{name.upper()}", raising=False)


def toml(folder: Path, text: str) -> Path:
    file = folder / "twintrack.toml"
    file.write_text(text)
    return file


def test_defaults_serve_on_loopback_with_masking() -> None:
    settings = load_settings()
    assert (settings.host, settings.masking, settings.keep_full_address) == ("127.0.0.1", True, False)
    assert settings.store_url.startswith("chdb:///") and settings.control_url.startswith("sqlite:////")


def test_environment_beats_file_and_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toml(tmp_path, 'port = 1111\nchunk_rows = 2222\nhost = "::1"')
    monkeypatch.setenv("TWINTRACK_PORT", "3333")
    settings = load_settings(file)
    assert (settings.port, settings.chunk_rows, settings.host) == (3333, 2222, "::1")


def test_command_line_beats_all_and_what_it_leaves_out_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINTRACK_PORT", "3333")
    settings = load_settings(toml(tmp_path, "port = 1111"), port=4444, host=None)
    assert (settings.port, settings.host) == (4444, "127.0.0.1")


def test_secret_is_read_from_a_file_and_shown_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("  hush-hush\n")
    monkeypatch.setenv("TWINTRACK_JWT_SECRET_FILE", str(tmp_path / "secret"))
    settings = load_settings()
    assert settings.jwt_secret.get_secret_value() == "hush-hush"
    assert "hush" not in repr(settings) and "hush" not in str(settings.model_dump())


def test_variable_beats_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("from-file")
    monkeypatch.setenv("TWINTRACK_JWT_SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("TWINTRACK_JWT_SECRET", "from-variable")
    assert load_settings().jwt_secret.get_secret_value() == "from-variable"


def test_every_fault_is_told_at_once_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINTRACK_PORT", "x")
    monkeypatch.setenv("TWINTRACK_JWT_SECRET_FILE", str(tmp_path / "missing"))
    file = toml(tmp_path, 'chunk_rows = -1\ncolour = "red"\ntrusted_proxies = "10.0.0.1/8"')
    with pytest.raises(SettingsError) as refused:
        load_settings(file)
    for name in ("PORT", "CHUNK_ROWS", "COLOUR", "TRUSTED_PROXIES", "JWT_SECRET_FILE"):
        assert f"TWINTRACK_{name}:" in refused.value.message, name


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe", b"port = 1\nport = 2"])
def test_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "twintrack.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        load_settings(file)
    assert "not TOML" in refused.value.message and str(file) in refused.value.hint


def test_missing_file_and_folder_in_its_place_are_named(tmp_path: Path) -> None:
    for place in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SettingsError) as refused:
            load_settings(place)
        assert "cannot read" in refused.value.message


def test_secret_file_that_is_no_text_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("TWINTRACK_JWT_SECRET_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "TWINTRACK_JWT_SECRET_FILE" in refused.value.message


@pytest.mark.parametrize(
    "given",
    [
        {"port": 65_536},
        {"port": -1},
        {"chunk_rows": 0},
        {"id_window_days": 91},
        {"query_seconds": 0},
        {"ingest_concurrency": 0},
        {"trusted_proxies": "here"},
        {"index_bytes": 5},
    ],
)
def test_value_out_of_range_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        load_settings(**given)


@pytest.mark.parametrize("proxies", ["", "10.0.0.0/8", " 10.0.0.0/8 , 2001:db8::/32,", "192.0.2.1"])
def test_networks_of_proxies_are_read(proxies: str) -> None:
    assert load_settings(trusted_proxies=proxies).trusted_proxies == proxies


def test_settings_cannot_change_while_the_service_runs() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1  # type: ignore[misc]


def test_every_setting_says_what_it_does() -> None:
    assert [name for name, field in Settings.model_fields.items() if not (field.description or "").endswith(".")] == []
