"""The page in Debian's Chromium: a server of its own, and a browser that watches what it asks for."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ROOT

SHOTS = ROOT / "build" / "screenshots"
WAIT = 1000 * float(os.environ.get("CVAE_BROWSER_SECONDS", "60"))  # until something has to be there
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where the page is served while the tests run."""
    pytest.importorskip("gradio", reason="the page needs gradio: pip install '.[demo]'")
    from cvae.demo import server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with server.running("127.0.0.1", port) as found:
        yield found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium, or a skip that says what is missing."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


class Watched:
    """What a page did that it must not do."""

    def __init__(self, page: Any, address: str) -> None:
        self.errors: list[str] = []
        self.hosts: list[str] = []
        page.on(
            "console", lambda said: self.errors.append(said.text) if said.type == "error" else 0
        )
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        own = (address, "data:", "blob:")
        page.on(
            "request",
            lambda asked: None if asked.url.startswith(own) else self.hosts.append(asked.url),
        )


@pytest.fixture(params=[1280, 375])
def page(request: pytest.FixtureRequest, chromium: Any, address: str) -> Iterator[Any]:
    """The page, loaded, at the width of a desk or of a phone; without an error when the test ends."""
    size = {"width": request.param, "height": 900}
    context = chromium.new_context(viewport=size, accept_downloads=True)
    found = context.new_page()
    found.set_default_timeout(WAIT)
    watched = Watched(found, address)
    found.goto(address)
    found.locator("#figures .facts").wait_for()
    yield found
    context.close()
    assert watched.errors == []
    assert watched.hosts == []
