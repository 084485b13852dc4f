"""The cases in which events are lost or doubled elsewhere, each in a real browser against the real service.

A case tracks, lets the fault strike, and opens a page as a visitor's next one would. It answers with the proof that the
fault struck; where there is none the seed is a failure, whatever its rows say.
"""

import time
from collections.abc import Callable

from playwright.sync_api import Page

from tests.sdk.proxy import Mode
from tests.sdk.script import Script


def _close(script: Script) -> str:
    page = script.open()
    script.track(page)
    script.strike()
    waiting = script.waiting(page)
    page.close()
    script.open()
    return f"tab closed with {waiting} events that no answer had ended" if waiting else ""


def _navigate(script: Script) -> str:
    page = script.open()
    script.track(page)
    script.strike()
    waiting = script.waiting(page)
    page.goto("about:blank")
    script.open()
    return f"left with {waiting} events that no answer had ended" if waiting else ""


def _crash(script: Script) -> str:
    page = script.open()
    script.track(page)
    script.strike()
    proof = "renderer gone" if script.crash(page) else ""
    script.open()
    return proof


def _sigkill(script: Script) -> str:
    script.own_browser()
    page = script.open()
    script.track(page)
    proof = script.kill_browser()
    script.own_browser()
    script.open()
    return proof


def _offline(script: Script) -> str:
    page = script.open()
    script.context.set_offline(True)
    script.track(page)
    failed = page.evaluate("fetch('/page?probe').then(() => false, () => true)")
    script.strike()
    page.close()
    seen = {id for batch in script.bench.proxy.batches for id in batch.ids} & {event["id"] for event in script.tracked}
    script.context.set_offline(False)
    script.open()
    return "requests failed, none reached the site" if failed and not seen else ""


def _then(script: Script, page: Page) -> None:
    """Half of the visitors stay, half close the tab and come back."""
    if script.dice.random() < 0.5:
        page.close()
        page = script.open()
    script.answered(page)


def _fault(mode: Mode, seconds: float = 1.0) -> Callable[[Script], str]:
    def case(script: Script) -> str:
        page = script.open()
        script.mode(mode)
        script.track(page)
        hits = script.struck(page, mode)
        page.wait_for_timeout(script.dice.uniform(0, seconds * 1000))
        script.strike()
        script.mode("ok")
        _then(script, page)
        return f"{hits} requests met {mode}" if hits else ""

    return case


def _hang(script: Script) -> str:
    """Most visitors close the tab; a few stay until the SDK's own time limit of half a minute has ended the request."""
    page = script.open()
    script.mode("hang")
    script.track(page)
    hits = script.struck(page, "hang")
    script.strike()
    stays = script.dice.random() < 0.1
    if not stays:
        page.close()
    script.mode("ok")
    script.answered(page if stays else script.open())
    return f"{hits} requests hung{', the tab stayed' if stays else ''}" if hits else ""


# Whether this page holds the turn: a lock of its own tells it who it is to the browser.
_HOLDS = """async (prefix) => {
  const held = async () => (await navigator.locks.query()).held;
  const probe = `probe ${Math.random()}`;
  const self = await navigator.locks.request(probe, async () => (await held()).find((lock) => lock.name === probe).clientId);
  return (await held()).some((lock) => lock.name.startsWith(prefix) && lock.clientId === self);
}"""


def _holder(pages: list[Page], lock: str) -> Page | None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for page in pages:
            if page.evaluate(_HOLDS, lock):
                return page
        pages[0].wait_for_timeout(50)
    return None


def _tabs(script: Script) -> str:
    """The tab that sends dies with its request under way; the other one lives on."""
    lock = script.bench.subject.lock
    first, second = script.open(), script.open()
    script.mode("hang")
    script.track(first, 20)
    hits = script.struck(first, "hang")
    sender = _holder([first, second], lock) if lock else first
    script.mode("ok")
    if sender is None:
        return ""
    other = second if sender is first else first
    script.track(other, 20)
    script.strike()
    if script.dice.random() < 0.5:
        dead = "crashed" if script.crash(sender) else ""
    else:
        sender.close()
        dead = "closed" if sender.is_closed() else ""
    script.answered(other)
    return f"the sender, {hits} request under way and the turn in hand, {dead}" if hits and dead else ""


CASES: dict[str, Callable[[Script], str]] = {
    "close": _close,
    "navigate": _navigate,
    "crash": _crash,
    "sigkill": _sigkill,
    "offline": _offline,
    "5xx": _fault("5xx"),
    "429": _fault("429"),
    "hang": _hang,
    "reset": _fault("reset"),
    "cut": _fault("cut"),
    "tabs": _tabs,
}
