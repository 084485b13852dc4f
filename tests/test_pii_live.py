"""The rules file of a running server: a good change takes effect, a broken one changes nothing and is told."""

from pathlib import Path

import pytest

from tests.conftest import running
from tests.faults.test_wire import until
from tests.privacy.test_audit import entries, no_room_beyond
from tests.test_doctor import checks
from twintrack.errors import SettingsError
from twintrack.pii import LiveMaskers
from twintrack.privacy import chain
from twintrack.testing import wire_event

BADGE = 'version = "%s"\n[[rules]]\nname = "badge"\npattern = \'B-\\d{5}\'\n'


def rules(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def left(maskers: LiveMaskers, text: str) -> str:
    masker = maskers.of("local")
    assert masker is not None
    return masker.mask(text).text


def test_changed_file_takes_effect_and_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    path = rules(tmp_path / "rules.toml", 'version = "a"')
    maskers = LiveMaskers(path, told=told.append)
    assert left(maskers, "B-12345") == "B-12345"
    path.write_text(BADGE % "b")
    maskers.look()
    maskers.look()
    assert left(maskers, "B-12345") == "[BADGE]" and told == ["loaded"] and not maskers.fault


@pytest.mark.parametrize("broken", ["= =", 'colour = "red"', "[[rules]]\nname='x'\npattern='('", None])
def test_broken_or_missing_file_keeps_the_rules_in_force_until_it_is_mended(tmp_path: Path, broken: str | None) -> None:
    told: list[str] = []
    path = rules(tmp_path / "rules.toml", BADGE % "a")
    maskers = LiveMaskers(path, told=told.append)
    path.unlink() if broken is None else path.write_text(broken)
    maskers.look()
    maskers.look()
    assert left(maskers, "B-12345, ada@example.com") == "[BADGE], [EMAIL]"
    assert maskers.fault and told == ["refused"]
    path.write_text(BADGE % "a")  # the content in force is back: nothing to load, nothing wrong
    maskers.look()
    assert not maskers.fault and told == ["refused"]
    path.write_text(BADGE % "b")
    maskers.look()
    assert told == ["refused", "loaded"]


def test_file_that_is_broken_at_the_start_refuses_to_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        LiveMaskers(rules(tmp_path / "rules.toml", "= ="))


def test_running_server_follows_its_file_and_stamps_each_event_with_the_version(tmp_path: Path) -> None:
    path = rules(tmp_path / "rules.toml", BADGE % "one")
    with running(tmp_path / "data", masking_rules=str(path)) as service:
        maskers = service.services.receiver.maskers

        def version() -> str:
            masker = maskers.of("local")
            assert masker is not None
            return masker.version

        service.send([wire_event(message_content="B-12345 C-12345")])
        path.write_text((BADGE % "two").replace("B-", "C-"))
        until(lambda: "two" in version())
        service.send([wire_event(message_content="B-12345 C-12345")])
        path.write_text("= =")
        until(lambda: maskers.fault)
        service.send([wire_event(message_content="B-12345 C-12345")])

        stored = service.rows("SELECT message_content, masking_version FROM analytics.events ORDER BY server_timestamp")
        assert [text for text, _ in stored] == ["[BADGE] C-12345", "B-12345 [BADGE]", "B-12345 [BADGE]"]
        assert ["one" in stored[0][1], "two" in stored[1][1], stored[1][1] == stored[2][1]] == [True, True, True]
        found = checks(service)["masking"]
        assert not found["ok"] and "not TOML" in found["says"] and version() in found["says"]
        metrics = service.get("/metrics").text
        assert "twintrack_ingest_masking_rules_refused 1.0" in metrics
        assert 'twintrack_ingest_masking_rules_reloads_total{result="refused"} 1.0' in metrics
        assert 'twintrack_ingest_masking_rules_reloads_total{result="loaded"} 1.0' in metrics


def test_change_of_the_rules_is_recorded_before_it_takes_effect_or_does_not_take_effect(tmp_path: Path) -> None:
    """One that is taken back before the next start leaves its records too."""
    path = rules(tmp_path / "rules.toml", BADGE % "one")
    with running(tmp_path / "data", masking_rules=str(path)) as service:
        maskers, folder = service.services.receiver.maskers, service.services.audit.folder

        def acts() -> list[tuple[str, str, str]]:
            found = [entry for entry in entries(folder) if entry.what == "masking.change"]
            assert all((entry.who, entry.role) == ("service", "service") for entry in found)
            return [(e.outcome, str(e.detail["from"]), str(e.detail.get("to", ""))) for e in found]

        service.sql("SELECT 1")  # so that there is a file of the log
        with no_room_beyond(max(file.stat().st_size for file in chain.files(folder))):
            path.write_text((BADGE % "two").replace("B-", "C-"))
            until(lambda: maskers.fault)
            assert left(maskers, "B-12345 C-12345") == "[BADGE] C-12345" and "audit" in maskers.fault
        until(lambda: left(maskers, "B-12345 C-12345") == "B-12345 [BADGE]")
        path.write_text("= =")
        until(lambda: maskers.fault)
        path.write_text(BADGE % "one")
        until(lambda: left(maskers, "B-12345 C-12345") == "[BADGE] C-12345")
        done, refused, back = acts()
        assert (done[0], refused[0], back[0]) == ("done", "refused", "done")
        assert "one" in done[1] and done[2] == refused[1] == back[1] and "two" in done[2] and back[2] == done[1]
