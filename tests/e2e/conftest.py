"""A real `twintrack serve --demo` in a process of its own, and a real Chromium."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@dataclass
class Running:
    process: subprocess.Popen[str]
    address: str
    link: str
    data: Path

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "twintrack", *words, "--data", str(self.data)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def start(data: Path, *words: str, **environment: str) -> Running:
    log = (data.parent / "serve.log").open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "twintrack", "serve", "--port", "0", "--data", str(data), *words],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, **environment},
    )
    text = ""
    assert process.stdout is not None
    for line in process.stdout:
        text += line
        if "Stop" in line or "stop " in line:
            break
    found = re.search(r"https?://127\.0\.0\.1:\d+", text)
    assert found, text
    link = re.search(r"http\S+sign-in\S+", text)
    return Running(process, found.group(), link.group() if link else "", data)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Running]:
    running = start(tmp_path / "data", "--demo")
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def chromium_path() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = os.environ.get("TWINTRACK_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert path, "the browser tests need Chromium: apt-get install chromium, or set TWINTRACK_CHROMIUM"
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1360, "height": 860})
    page = context.new_page()
    errors: list[str] = []
    page.errors = errors  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
