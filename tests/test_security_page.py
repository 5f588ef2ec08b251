"""The page in a browser: what got into its markup would run nothing and fetch nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import Browser, browser, hostile

__all__ = ["browser", "hostile"]

MARKUP = """
<base href="{at}/base/"><link rel="stylesheet" href="{at}/a.css"><link rel="prefetch" href="{at}/p">
<script>window.broken = 1</script><script src="{at}/a.js"></script>
<script type="module">import "{at}/m.js"</script>
<img src="{at}/a.png" onerror="window.broken = 2" onload="window.broken = 3">
<img src="data:," onerror="window.broken = 4"><svg onload="window.broken = 5"></svg>
<iframe src="{at}/f.html"></iframe><iframe srcdoc="<script>top.broken = 6</script>"></iframe>
<object data="{at}/o"></object><embed src="{at}/e"><video src="{at}/v" autoplay></video>
<style>@import "{at}/b.css"; body {{ background: url({at}/b.png) }}</style>
<p style="background: url({at}/c.png)">x</p>
<form id="form" action="{at}/form"><button id="send">x</button></form>
<a id="link" href="javascript:window.broken = 7">x</a>
"""
ASK = """
const done = arguments[1];
const tries = [fetch(arguments[0] + "/fetch"), import(arguments[0] + "/dynamic.js")];
navigator.sendBeacon(arguments[0] + "/beacon");
Promise.allSettled(tries).then((all) => done(all.map((each) => each.status)));
"""


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            self.wfile.write(b"window.broken = 8")

        do_POST = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{made.server_port}", asked
    finally:
        made.shutdown()
        made.server_close()


def let_in(page: Path, at: str, policy: bool = True) -> Path:
    """The page with hostile markup at the beginning of its body, with its policy or without."""
    text = page.read_text()
    if not policy:
        text = text.replace("Content-Security-Policy", "X-Nothing")
    made = page.with_name("let_in.html" if policy else "without.html")
    made.write_text(text.replace("<body>", f"<body>{MARKUP.format(at=at)}", 1))
    return made


def test_what_was_let_in_runs_nothing_and_no_request_leaves(
    browser: Browser, hostile: Path, server: tuple[str, list[str]]
) -> None:
    at, asked = server
    browser.open(let_in(hostile, at))
    browser.driver.set_script_timeout(10)
    assert browser.driver.execute_async_script(ASK, at) == ["rejected", "rejected"]
    browser.ask("document.getElementById('link').click()")
    browser.ask("document.getElementById('send').click()")
    assert browser.ask("return window.broken") is None
    assert browser.ask("return document.baseURI") == browser.driver.current_url
    assert browser.find("#runs").is_displayed()
    assert asked == []


def test_the_markup_would_do_harm_without_the_policy(
    browser: Browser, hostile: Path, server: tuple[str, list[str]]
) -> None:
    at, asked = server
    browser.open(let_in(hostile, at, policy=False))
    assert browser.ask("return window.broken") is not None
    assert {"/a.css", "/a.png", "/f.html"} <= set(asked)
