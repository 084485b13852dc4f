"""No request makes a 500, whatever is sent: schemathesis over our own OpenAPI document, and one error shape."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.conftest import Service, open_service
from twintrack.app import create_app


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> object:
    service = open_service(tmp_path_factory.mktemp("api") / "data")
    yield service
    service.services.close()


def test_no_request_makes_a_500(opened: Service) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(opened.services))
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        key = opened.write_key if operation.path.endswith(("/events", "/config")) else opened.owner_key

        @settings(max_examples=15, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            response = case.call(headers={"Authorization": f"Bearer {key}"})  # noqa: B023
            assert response.status_code < 500, response.text

        check()
        tried += 1
    assert tried >= 12


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("PUT", "/api/analytics/sql", 405),
        ("GET", "/api/analytics/pipeline", 401),
        ("GET", "/api/analytics/events/nonsense", 400),
        ("GET", "/api/analytics/events/6fa459ea-ee8a-4ca4-894e-db77e160355e", 404),
        ("GET", "/api/analytics/live?limit=0", 422),
        ("GET", "/api/analytics/live?after=@@", 400),
        ("POST", "/api/analytics/sql", 422),
        ("POST", "/api/analytics/events", 400),
        ("POST", "/api/session", 422),
    ],
)
def test_every_failure_has_the_one_error_shape(opened: Service, method: str, path: str, status: int) -> None:
    signed = (
        {}
        if status == 401
        else {"Authorization": f"Bearer {opened.write_key if path.endswith('/events') else opened.owner_key}"}
    )
    answer = opened.request(method, path, headers=signed)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message", "hint"}
    assert all(isinstance(v, str) for v in answer.json()["error"].values())
