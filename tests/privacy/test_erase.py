"""An erased person is nowhere, and stays so; everybody else is as they were."""

from pathlib import Path

from tests.privacy.kit import erase, served
from tests.test_balance import state_of
from twintrack.load.rollup import compare
from twintrack.testing import wire_event


def test_erased_user_has_no_row_anywhere_and_the_balance_and_rollups_hold(tmp_path: Path) -> None:
    with served(tmp_path / "data") as service:
        service.send([wire_event(user_id="ann", anonymous_id="a-1") for _ in range(5)])
        service.send([wire_event(user_id=None, anonymous_id="a-1") for _ in range(3)])
        service.send([wire_event(user_id="bob", anonymous_id="a-2") for _ in range(4)])
        service.settle()
        request = erase(service, user_id="ann")
        print(request.told())
        assert service.rows("SELECT user_id, count() FROM analytics.events GROUP BY 1") == [["bob", 4]]
        assert service.rows("SELECT DISTINCT user_id FROM analytics.events_daily") == [["bob"]]
        assert service.rows("SELECT DISTINCT user_id FROM analytics.identities") == [["bob"]]
        assert compare(service.services.store) == []
        state = state_of(service)
        assert (state["stored"], state["erased"], state["received"]) == (4, 8, 12)
