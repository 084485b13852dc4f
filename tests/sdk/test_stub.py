"""The inline stub in a real browser, under a policy that lets in nothing but its nonce."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tests.e2e.conftest import Running
from tests.sdk.proxy import Proxy
from tests.sdk.seeds import Bench
from tests.sdk.subject import SDK, TWINTRACK
from tests.sdk.test_vendors import until

_STUB = SDK.with_name("stub.global.js")
_PAGE = """<!doctype html><meta charset=utf-8><title>stub</title>
<script nonce="n0nce">
  window.violations = [];
  document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
</script>
<script nonce="n0nce" data-twintrack="/sdk.js">%s</script>
<script nonce="n0nce">
  window.analytics = twintrack.createAnalytics(
    { endpoint: "/api/analytics/events", writeKey: "%s", destinations: [twintrack.gtm()] });
  window.early = Array.from({ length: 5 }, (_, n) => analytics.trackEvent({ name: "stub", metadata: { n } }).id);
  window.called = Date.now();
</script>"""


def test_stub_under_a_strict_policy_stores_early_calls_once_with_their_id_and_time(
    running: Running, bench: Bench
) -> None:
    rows = bench.rows
    assert rows is not None
    proxy = Proxy(TWINTRACK, running.address, (_PAGE % (_STUB.read_text(), bench.write_key)).encode())
    proxy.policy = "default-src 'none'; script-src 'nonce-n0nce'; connect-src 'self'"
    page = bench.browser().new_page()
    # The script comes late, as on a slow line.
    page.route("**/sdk.js", lambda route: (page.wait_for_timeout(1_000), route.continue_()))
    page.goto(f"{proxy.address}/page", wait_until="commit")
    # Playwright's own waiting needs eval, which the policy forbids.
    assert until(lambda: page.evaluate("Boolean(window.early && twintrack.BackendAnalyticsClient)"))
    late: Any = page.evaluate("analytics.trackEvent({ name: 'stub' }).id")
    early: list[str] = page.evaluate("early")
    called = page.evaluate("called")
    pushed = until(lambda: page.evaluate("dataLayer.length") == 6)
    stored = until(lambda: rows.of("stub") == dict.fromkeys([*early, late], 1))
    violations = page.evaluate("violations")
    page.close()
    proxy.close()
    assert stored and pushed and violations == []
    times = [UUID(one).int >> 80 for one in early]
    assert all(called - 1_000 <= at <= called for at in times), datetime.fromtimestamp(called / 1000, UTC)
    assert sorted([*early, late]) == [*early, late]
