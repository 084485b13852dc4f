"""Data keys and project secrets: sealed at rest, rewrapped when the key changes, refused without harm by a wrong one."""

import shutil
from pathlib import Path

import pytest

from twintrack.control.control import Control
from twintrack.control.data_keys import add, wrappers
from twintrack.errors import EncryptionKeyRefused
from twintrack.seal import KeyRing, key_id
from twintrack.testing import ManualClock

ONE, OTHER = bytes(range(32)), bytes(range(1, 33))


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'control.db'}"


def secret_of(folder: Path, ring: KeyRing | None, project: str = "shop") -> bytes:
    control = Control(url(folder), ManualClock(), ring)
    try:
        return control.ensure_project(project).secret
    finally:
        control.close()


def bytes_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()))


def test_secret_of_a_project_is_the_same_at_each_start_and_on_no_page_of_the_database(tmp_path: Path) -> None:
    secret = secret_of(tmp_path, KeyRing(ONE))
    assert secret_of(tmp_path, KeyRing(ONE)) == secret
    assert secret not in bytes_of(tmp_path)


def test_sealing_that_is_switched_on_seals_the_secrets_that_are_there(tmp_path: Path) -> None:
    secret = secret_of(tmp_path, None)
    assert secret in bytes_of(tmp_path)
    assert secret_of(tmp_path, KeyRing(ONE)) == secret
    assert secret not in bytes_of(tmp_path)


@pytest.mark.parametrize("ring,told", [(None, "none is given"), (KeyRing(OTHER), key_id(OTHER))], ids=["none", "wrong"])
def test_start_without_the_key_is_refused_and_changes_nothing(tmp_path: Path, ring: KeyRing | None, told: str) -> None:
    secret = secret_of(tmp_path, KeyRing(ONE))
    before = bytes_of(tmp_path)
    with pytest.raises(EncryptionKeyRefused, match=told) as raised:
        secret_of(tmp_path, ring)
    assert key_id(ONE) in raised.value.message
    assert bytes_of(tmp_path) == before
    assert secret_of(tmp_path, KeyRing(ONE)) == secret


def test_new_key_rewraps_and_the_old_one_opens_nothing_from_then_on(tmp_path: Path) -> None:
    secret = secret_of(tmp_path, KeyRing(ONE))
    backup = tmp_path / "backup"
    backup.mkdir()
    shutil.copy(tmp_path / "control.db", backup)
    assert secret_of(tmp_path, KeyRing(OTHER, [ONE])) == secret
    assert secret_of(tmp_path, KeyRing(OTHER)) == secret
    with pytest.raises(EncryptionKeyRefused):
        secret_of(tmp_path, KeyRing(ONE))
    assert secret_of(backup, KeyRing(ONE)) == secret  # what was copied before still needs the key of its time


def test_every_data_key_is_rewrapped_and_the_newest_seals(tmp_path: Path) -> None:
    clock = ManualClock()
    control = Control(url(tmp_path), clock, KeyRing(ONE))
    assert control.data_keys is not None
    sealed = control.data_keys.seal(b"text", "x")
    number = add(control.engine, KeyRing(ONE), clock.milliseconds() - 60_000)  # by a node whose clock is behind
    control.data_keys.reload()
    assert control.data_keys.newest == number
    newer = control.data_keys.seal(b"text", "x")
    control.close()
    control = Control(url(tmp_path), clock, KeyRing(OTHER, [ONE]))
    assert control.data_keys is not None
    assert control.data_keys.open(sealed, "x") == control.data_keys.open(newer, "x") == b"text"
    assert wrappers(control.engine) == [key_id(OTHER)]
    control.close()


def test_project_made_by_another_process_opens_here(tmp_path: Path) -> None:
    clock = ManualClock()
    here = Control(url(tmp_path), clock, KeyRing(ONE))
    secret = secret_of(tmp_path, KeyRing(ONE), "elsewhere")
    clock.advance(2)
    assert here.project("elsewhere").secret == secret
    here.close()


def test_secret_put_in_the_place_of_another_projects_does_not_open(tmp_path: Path) -> None:
    from sqlalchemy import select, update

    from twintrack.control.tables import projects
    from twintrack.errors import SealBroken

    control = Control(url(tmp_path), ManualClock(), KeyRing(ONE))
    control.ensure_project("one")
    control.ensure_project("other")
    with control.engine.begin() as db:
        taken = db.execute(select(projects.c.secret).where(projects.c.name == "one")).scalar_one()
        db.execute(update(projects).where(projects.c.name == "other").values(secret=taken))
    with pytest.raises(SealBroken):
        control.ensure_project("one")
    control.close()
