"""A backup from before an erasure, put back beside the tombstones of today: nobody who was erased comes back."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import Service, open_service
from tests.privacy.kit import erase, finished, served
from tests.test_balance import state_of
from tests.test_doctor import checks
from twintrack.testing import wire_event


def test_erased_people_that_a_restore_brings_back_are_erased_again(tmp_path: Path) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    with served(data) as service:
        keys = service.write_key, service.owner_key
        service.send([wire_event(user_id="ann", anonymous_id="a-1"), wire_event(user_id=None, anonymous_id="a-1")])
        service.send([wire_event(user_id="bob", anonymous_id="b-1"), wire_event(user_id=None, anonymous_id="shy")])
        service.settle()
    shutil.copytree(data, backup, symlinks=True)
    with open_again(data, keys) as service:
        erase(service, user_id="ann")
        erase(service, anonymous_id="shy")
        service.send([wire_event(user_id="ann", anonymous_id="a-1")])  # agreed again; not in the backup
    for name in ("store", "spool"):
        shutil.rmtree(data / name)
        shutil.copytree(backup / name, data / name, symlinks=True)
    with open_again(data, keys) as service:
        assert service.rows("SELECT count() FROM analytics.events") == [[4]]
        requests = service.services.eraser.reapply()
        assert len(requests) == 2  # two times of request
        for request in requests:
            done = finished(service, request.id)
            assert done.certificate is not None and done.certificate["vendors"] == {}
        assert service.rows("SELECT user_id, anonymous_id FROM analytics.events") == [["bob", "b-1"]]
        assert service.rows("SELECT DISTINCT user_id FROM analytics.identities") == [["bob"]]
        assert state_of(service)["erased"] == 3
        assert checks(service)["rollups"]["ok"]
        assert service.services.eraser.reapply() == []


@contextmanager
def open_again(data: Path, keys: tuple[str, str]) -> Iterator[Service]:
    service = open_service(data)
    service.write_key, service.owner_key = keys
    try:
        yield service
    finally:
        service.services.close()
