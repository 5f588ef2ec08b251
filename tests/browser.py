"""A headless Chromium for tests of the page, and what they ask it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from made_up import hostile_spec, made_up

from lwspec.report.page.write import write_page

HOW = "apt-get install -y --no-install-recommends chromium chromium-driver"
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars"
SCHEMES = ("light", "dark")
WAIT_S = 10

MORE = """
[[figure]]
name = "arms"
kind = "arms"
experiments = ["direct", "main"]

[[claim]]
name = "reads"
says = "The sender reads, by {gap} points."
otherwise = "The sender does not read ({gap} points)."
left = "main:sender_direct/*"
right = "main:no_message/*"

[[claim]]
name = "bridges"
says = "The bridge reads."
otherwise = "The bridge does not read."
left = "main:bridge/*"
right = "main:no_message/*"
"""


class Browser:
    """One Chromium; `open` gives it a page at a width and in a colour scheme."""

    def __init__(self, driver: Any) -> None:
        from selenium.webdriver.common.keys import Keys

        self.driver = driver
        self.keys = Keys

    def open(
        self, path: Path, width: int = 1000, scheme: str = "light", *, script: bool = True
    ) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        prefers = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=prefers)
        self.command("Emulation.setScriptExecutionDisabled", value=not script)
        self.driver.get("about:blank")
        self.logs("performance"), self.logs("browser")
        self.driver.get(path.as_uri())

    def command(self, name: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)

    def ask(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def logs(self, kind: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(kind))

    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        events = [json.loads(each["message"])["message"] for each in self.logs("performance")]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def press(self, *keys: str) -> None:
        self.actions().send_keys(*keys).perform()

    def actions(self) -> Any:
        """Chained moves of the pointer and presses of keys."""
        from selenium.webdriver.common.action_chains import ActionChains

        return ActionChains(self.driver)

    def until(self, selector: str, beginning: str) -> None:
        """Wait until an element's text begins so: a link's hash is followed a moment later."""
        until = time.monotonic() + WAIT_S
        begins = "return document.querySelector(arguments[0]).textContent.startsWith(arguments[1])"
        while not self.ask(begins, selector, beginning):
            assert time.monotonic() < until, f"{self.text(selector)!r}, not {beginning!r}"

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.find(selector).text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Skips, saying how to install it, where there is no Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    program, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if program is None or chromium is None:
        pytest.skip(f"Chromium is not installed: {HOW}")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(program))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def real(copy_of_finished: Callable[[], Project]) -> tuple[Path, Project]:
    """The page of a finished plan that lacks two runs, and where its records lie."""
    project = copy_of_finished()
    project.change(
        'name = "main"\nexperiments', 'name = "main"\ncompare.to = "no_message"\nexperiments'
    )
    project.change("[paper]", f"{MORE}\n[paper]")
    for path in project.runs.glob("evaluate-*/job.json"):
        if json.loads(path.read_text())["label"] in ("text_relay colour", "bridge colour s2"):
            shutil.rmtree(path.parent)
    project.run("report", "small.toml", "--html", "page.html")
    return project.folder / "page.html", project


@pytest.fixture(scope="module")
def hostile(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of every kind of figure whose names try to break out."""
    project = Project(tmp_path_factory.mktemp("project"), world)
    project.write(hostile_spec())
    folder = tmp_path_factory.mktemp("hostile")
    write_page(made_up(project, folder), folder / "page.html")
    return folder / "page.html"


@pytest.fixture(params=["real", "hostile"])
def page(request: pytest.FixtureRequest) -> Path:
    found = request.getfixturevalue(request.param)
    return found if isinstance(found, Path) else found[0]


OVERFLOW = """
document.querySelectorAll("details").forEach((each) => { each.open = true; });
return [document.documentElement.scrollWidth, window.innerWidth];
"""

CONTRAST = """
function parts(colour) {
  const found = colour.match(/[\\d.]+/g).map(Number);
  return found.length > 3 ? found : [...found, 1];
}
function luminance(colour) {
  const [r, g, b] = parts(colour).slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function behind(element) {
  for (let each = element; each; each = each.parentElement) {
    const colour = getComputedStyle(each).backgroundColor;
    if (parts(colour)[3] > 0) return colour;
  }
  throw new Error("the page has no background");
}
document.querySelectorAll("details").forEach((each) => { each.open = true; });
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = new Map();
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const colour = element.closest("svg") ? style.fill : style.color;
  const [one, other] = [luminance(colour), luminance(behind(element))].sort((a, b) => b - a);
  const ratio = (one + 0.05) / (other + 0.05);
  found.set(`${element.tagName} ${colour} on ${behind(element)}`, ratio);
}
return Array.from(found);
"""
