"""A browser and a folder that it can open, for tests of single parts of the page: no Gradio, so they are quick."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 180_000  # milliseconds: on a machine with other work to do, much takes minutes
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class RangeHandler(SimpleHTTPRequestHandler):
    """Serves a folder, and parts of files: without them a browser cannot seek."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file():
            return super().do_GET()
        data = path.read_bytes()
        start, end = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        self.send_header("Content-Length", str(end + 1 - start))
        self.end_headers()
        self.wfile.write(data[start : end + 1])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")  # closed before the next module's begins: Playwright allows one at a time
def browser() -> Iterator[Any]:
    """Chromium; without it tests are skipped, but where everything must be tested, as under CI, they fail."""
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no chromium on this machine (apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and the address that it is served under."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "favicon.ico").touch()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(RangeHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def open_page(browser: Any, served: tuple[Path, str]) -> Iterator[Callable[..., Any]]:
    """Opens HTML as a page of the folder; options are the browser context's. The console must stay free of errors."""
    folder, address = served
    contexts, errors = [], []

    def note(message: Any) -> None:
        if message.type == "error":
            errors.append(message.text)

    def open_page(html: str, before: Callable[[Any], None] = lambda page: None, **options: Any) -> Any:
        name = f"page{len(contexts)}.html"
        (folder / name).write_text(html, encoding="utf-8")
        contexts.append(browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        before(page)
        page.goto(address + name)
        return page

    open_page.errors = errors  # type: ignore[attr-defined]
    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Opens the page, with a link's query, for a visitor of their own; options are the browser context's."""
    contexts = []

    def visit(query: str = "", **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(PATIENCE)
        page = contexts[-1].new_page()
        page.goto(address + query)
        page.wait_for_selector("#translation-hint .hint")  # models' files are found, schedules read
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture
def page(visit: Callable[..., Any]) -> Iterator[Any]:
    """The page, opened by a visitor; the browser's console must stay free of errors."""
    errors: list[str] = []
    page = visit(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.context.close()
    assert errors == []
