"""The page in a real browser: what a reader sees, reaches, hears and follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser import CONTRAST, OVERFLOW, SCHEMES, Browser, browser, hostile, page, real
from conftest import Project
from made_up import HOSTILE

__all__ = ["browser", "hostile", "page", "real"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_is_wider_than_the_window(
    browser: Browser, page: Path, width: int, scheme: str
) -> None:
    browser.open(page, width, scheme)
    needed, there = browser.ask(OVERFLOW)
    assert there == width
    assert needed <= there


def test_the_page_asks_for_nothing_and_complains_of_nothing(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.ask("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    browser.find("td a.n").click()
    assert browser.logs("browser") == []
    assert [url for url in browser.requests() if url not in (page.as_uri(), "data:,")] == []


def test_a_script_that_was_let_in_would_not_run(
    browser: Browser, real: tuple[Path, Project]
) -> None:
    page = real[0].with_name("broken.html")
    added = (
        '<script>document.title = "in"</script><img src="https://example.org/a.png" onerror="0">'
    )
    page.write_text(real[0].read_text().replace("<main", f"{added}<main"))
    browser.open(page)
    assert browser.driver.title == "small: results"
    assert (
        sum("Content Security Policy" in each["message"] for each in browser.logs("browser")) >= 2
    )


def test_every_number_leads_to_its_runs(browser: Browser, page: Path) -> None:
    browser.open(page)
    numbers, empty, unknown = browser.ask(
        """
        const known = new Set(JSON.parse(document.getElementById("data").textContent).runs
          .map((run) => run[0]));
        const links = Array.from(document.querySelectorAll("a.n"));
        const targets = links.map((link) => document.getElementById(link.hash.slice(1)));
        const runs = targets.flatMap((target) => Array.from(target.querySelectorAll("a")));
        return [links.length,
          targets.filter((target) => !target.querySelector("a")).length,
          runs.filter((run) => !known.has(run.hash.slice(1)) || !run.textContent.trim()).length];
        """
    )
    assert numbers > 20
    assert (empty, unknown) == (0, 0)
    unlinked = """
        return Array.from(document.querySelectorAll("td.r")).filter((cell) =>
          cell.dataset.m && !cell.querySelector("a.n")).length
    """
    assert browser.ask(unlinked) == 0


def test_from_a_number_to_the_files_of_its_run(
    browser: Browser, real: tuple[Path, Project]
) -> None:
    page, project = real
    browser.open(page)
    browser.ask(
        "Array.from(document.querySelectorAll('th[scope=row]')).find((each) =>"
        " each.textContent.trim() === 'bridge').parentNode.querySelector('a.n').click()"
    )
    said = browser.text("dialog")
    assert said.startswith("main, bridge, colour: ")
    assert "evaluate bridge colour s1 seed 1, accuracy 0." in said
    assert "s2" not in said
    browser.find("dialog li a").click()
    assert not browser.find("dialog").is_displayed()
    browser.until("#count", "1 of ")
    shown = browser.text("#list .run")
    job = browser.find("#list .run").get_attribute("id")
    output = json.loads((project.runs / job / "attempt-1/outputs/result.json").read_text())
    for name, sha in output["files"].items():
        assert f"{name}\nsha256 {sha[:32]}" in shown
    started = json.loads((project.runs / job / "attempt-1/started.json").read_text())["evidence"]
    assert str(started["command"]) in shown
    assert str(started["git_sha"]) in shown
    browser.find("#list .run dd a[href^='#fit-']").click()
    browser.until("#list .run", "fit bridge colour s1")
    browser.driver.back()
    browser.until("#list .run", "evaluate bridge colour s1")


def test_states_and_verdicts_stand_in_words(browser: Browser, real: tuple[Path, Project]) -> None:
    browser.open(real[0])
    text = browser.text("main")
    assert "relay 1 waiting" in text
    assert "bridges: untested" in text
    assert "reads: supported" in text or "reads: not supported" in text
    assert "not run" in browser.text("#table-1 ~ .scroll table")
    whole = browser.find("#main").get_attribute("textContent")
    assert "main, text_relay/colour: 0 of 1 runs" in whole
    assert "main, bridge/colour: 1 of 2 runs" in whole
    assert "evaluate bridge colour s1; missing: evaluate bridge colour s2" in whole


def test_a_figure_by_keyboard_alone(browser: Browser, real: tuple[Path, Project]) -> None:
    browser.open(real[0])
    plot = "section.figure .plot"
    assert not browser.driver.find_elements("css selector", ".tip:not([hidden])")
    browser.ask(f"document.querySelector('{plot}').focus()")
    browser.press(browser.keys.ARROW_RIGHT)
    tip = browser.text(".tip:not([hidden])")
    assert tip.splitlines()[0] == "bridge, colour, epoch 1"
    assert "interval" in tip and "2 runs" in tip
    browser.press(browser.keys.ARROW_RIGHT)
    assert browser.text(".tip:not([hidden])") != tip
    browser.press(browser.keys.ENTER)
    assert "fit bridge colour s2" in browser.text("dialog")
    browser.press(browser.keys.ESCAPE)
    assert not browser.find("dialog").is_displayed()
    assert browser.ask(f"return document.activeElement === document.querySelector('{plot}')")
    browser.press(browser.keys.ARROW_LEFT)
    assert browser.text(".tip:not([hidden])")
    browser.press(browser.keys.ESCAPE)
    assert not browser.driver.find_elements("css selector", ".tip:not([hidden])")


def test_the_pointer_shows_the_nearest_value(browser: Browser, real: tuple[Path, Project]) -> None:
    browser.open(real[0])
    mark = browser.driver.find_elements("css selector", ".plot .pt")[1]
    browser.ask("arguments[0].scrollIntoView({ block: 'center' })", mark)
    browser.actions().move_to_element_with_offset(mark, 5, 6).perform()
    assert browser.text(".tip:not([hidden])").startswith("bridge, colour, epoch 2")


def test_the_legend_shows_and_hides(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    browser.ask("document.querySelector('.legend button').focus()")
    for pressed, shown in (("true", True), ("false", False), ("true", True)):
        assert browser.find(".legend button").get_attribute("aria-pressed") == pressed
        marks = browser.ask(
            "const figure = document.querySelector('.legend').closest('section');"
            "return Array.from(figure.querySelectorAll('.plot g[data-s=\"0\"]'),"
            " (each) => each.getClientRects().length > 0)"
        )
        assert marks and set(marks) == {shown}
        browser.press(browser.keys.SPACE)


def test_the_filter_says_how_many_it_found(browser: Browser, real: tuple[Path, Project]) -> None:
    browser.open(real[0])
    field, live = browser.find("#filter"), browser.find("#count")
    assert live.get_attribute("aria-live") == "polite"
    every = int(live.text.split(" of ")[1].split()[0])
    field.send_keys("FIT s2")
    found = browser.driver.find_elements("css selector", "#list > .run")
    assert live.text == f"{len(found)} of {every} runs"
    assert 0 < len(found) < every
    assert all("s2" in each.text for each in found)
    field.send_keys(browser.keys.ESCAPE)
    assert live.text == f"{every} of {every} runs"


def test_runs_are_listed_fifty_at_a_time(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    every = int(browser.text("#count").split()[0])
    listed = "return document.getElementById('list').children.length"
    assert every > browser.ask(listed) == 50
    assert browser.text("#more") == f"Show {min(50, every - 50)} more of {every - 50}"
    browser.find("#more").click()
    assert browser.ask(listed) == min(100, every)
    fresh = "return document.activeElement === document.querySelectorAll('#list summary')[50]"
    assert browser.ask(fresh)


def test_the_tab_key_reaches_everything(browser: Browser, real: tuple[Path, Project]) -> None:
    browser.open(real[0])
    browser.ask("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    wanted = browser.ask(
        """
        const all = "a[href], button, input, summary, [tabindex='0']";
        window.wanted = Array.from(document.querySelectorAll(all))
          .filter((each) => each.checkVisibility());
        return window.wanted.length;
        """
    )
    seen, bare = set(), []
    for step in range(wanted + 5):
        browser.press(browser.keys.TAB)
        at, text, outlined = browser.ask(
            """
            const at = document.activeElement, style = getComputedStyle(at);
            return [window.wanted.indexOf(at), at.textContent.slice(0, 20),
              style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
            """
        )
        if step == 0:
            assert text == "Skip to the results"
        if at >= 0:
            seen.add(at)
            if not outlined:
                bare.append(text)
    assert len(seen) == wanted
    assert bare == []


def test_everything_has_a_name_for_screen_readers(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.ask("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    browser.command("Accessibility.enable")
    nodes = browser.command("Accessibility.getFullAXTree")["nodes"]
    roles = ("region", "image", "button", "link", "table", "searchbox", "navigation", "article",
             "DisclosureTriangle", "group")  # fmt: skip
    named: dict[str, list[str]] = {}
    for node in nodes:
        role = node.get("role", {}).get("value")
        if not node.get("ignored") and role in roles:
            named.setdefault(role, []).append(node.get("name", {}).get("value", "").strip())
    assert set(named) >= {"region", "image", "link", "table", "searchbox", "navigation"}
    for role in set(named) - {"article", "group"}:
        assert all(named[role]), role
    assert len(set(named["region"])) == len(named["region"])
    regions = "return document.querySelectorAll('[role=region], main section').length"
    assert len(named["region"]) == browser.ask(regions)
    images = browser.ask("return document.querySelectorAll('svg[role=img]').length")
    assert len(named["image"]) == images
    levels = browser.ask(
        "return Array.from(document.querySelectorAll('h1, h2, h3, h4'))"
        ".filter((each) => !each.closest('dialog')).map((each) => +each.tagName[1])"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    assert browser.ask("return document.querySelectorAll('th:not([scope])').length") == 0
    assert browser.ask(
        "return Array.from(document.querySelectorAll('table'))"
        ".every((each) => each.caption.textContent.trim())"
    )
    ids = browser.ask("return Array.from(document.querySelectorAll('[id]'), (each) => each.id)")
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out(browser: Browser, page: Path, scheme: str) -> None:
    browser.open(page, scheme=scheme)
    found = dict(browser.ask(CONTRAST))
    assert len(found) > 10
    assert {what: ratio for what, ratio in found.items() if ratio < 4.5} == {}


def test_without_scripts_everything_can_be_read(
    browser: Browser, real: tuple[Path, Project]
) -> None:
    browser.open(real[0], script=False)
    assert not browser.find("#find").is_displayed()
    for selector in ("a.n", ":target a"):
        link = browser.find(selector)
        target = link.get_attribute("href").partition("#")[2]
        link.click()
        assert browser.find(f"[id='{target}']").is_displayed()
    assert "commit" in browser.text(":target")


def test_names_inject_nothing(browser: Browser, hostile: Path) -> None:
    browser.open(hostile)
    found = "return [window.broken, document.images.length, document.scripts.length]"
    assert browser.ask(found) == [None, 0, 2]
    assert browser.ask("return document.querySelectorAll('[style], [onerror], iframe').length") == 0
    text = browser.find("body").get_attribute("textContent")
    assert text.count(HOSTILE) > 10
    browser.ask("document.querySelector('td a.n').click()")
    assert HOSTILE in browser.find("dialog").get_attribute("textContent")
    browser.find("dialog li a").click()
    browser.until("#count", "1 of ")
    assert HOSTILE in browser.find("#list .run").get_attribute("textContent")
    assert browser.ask(found) == [None, 0, 2]
