"""The page's text: nothing that a name holds becomes markup, and thousands of runs stay small."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import SPEC, Project
from made_up import HOSTILE, digest, hostile_spec, made_up

from lwspec.report.figures.draw import COLOURS
from lwspec.report.page.plot import DASHES, MARKERS
from lwspec.report.page.scale import place_scale, tick_text, value_scale
from lwspec.report.page.svg import tag
from lwspec.report.page.write import FOLDER, write_page

MB = 1_000_000


def big_spec() -> str:
    """Ten experiments of 20 points, 5 tasks and 5 seeds, a table and a figure for each."""
    head, tail = SPEC.split("[defaults]")
    head, block = head.split("[tasks.colour]")
    asked = [block.replace('query = "Colour:', f'query = "Colour {n}:') for n in range(5)]
    tasks = "".join(f"[tasks.colour{n}]{text}" for n, text in enumerate(asked))
    defaults = tail.split("[[experiment]]")[0]
    defaults = defaults.replace('["colour"]', str([f"colour{n}" for n in range(5)]))
    defaults = defaults.replace("[1, 2]", "[1, 2, 3, 4, 5]").replace("epochs = 2", "epochs = 6")
    made = "".join(
        f'[[experiment]]\nname = "width{n}"\narms = ["bridge"]\n'
        f"bridge = {{ layer = 1, width = {16 + n}, depth = 1, heads = 1 }}\n"
        f'sweep = {{ "bridge.latents" = {list(range(1, 21))} }}\n'
        f'[[table]]\nname = "table{n}"\nexperiments = ["width{n}"]\n'
        f'[[figure]]\nname = "figure{n}"\nkind = "sweep"\nexperiments = ["width{n}"]\n'
        for n in range(10)
    )
    return f"{head}{tasks}[defaults]{defaults}{made}"


def test_ten_thousand_runs_are_one_small_file(project: Project, tmp_path: Path) -> None:
    project.write(big_spec())
    content = made_up(project, tmp_path)
    path = tmp_path / "page.html"
    write_page(content, path)
    assert len(content.plan.states) > 10_000
    assert path.stat().st_size < 5 * MB


@pytest.fixture
def hostile(project: Project, tmp_path: Path) -> str:
    project.write(hostile_spec())
    write_page(made_up(project, tmp_path), tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """The names of a page's elements and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_nothing_a_spec_says_becomes_markup(hostile: str) -> None:
    assert HOSTILE not in hostile
    assert hostile.count("<script") == hostile.count("</script") == 2
    assert hostile.count("<style") == hostile.count("</style") == 1
    found = Tags(hostile)
    assert {"svg", "table", "dialog"} <= found.elements
    assert not {"img", "i", "iframe", "object"} & found.elements
    assert not {name for name in found.attributes if name == "style" or name.startswith("on")}
    assert "src" not in found.attributes


def test_svg_is_escaped_inside_and_in_attributes() -> None:
    made = tag("text", "</text><b>", id='"><b>', stroke_width=1.25, none=None)
    attributes = 'id="&#34;&gt;&lt;b&gt;" stroke-width="1.2"'
    assert made == f"<text {attributes}>&lt;/text&gt;&lt;b&gt;</text>"


def test_the_policy_lets_in_the_pages_own_style_and_script_alone(hostile: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', hostile)
    assert policy and "unsafe" not in policy[1]
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules["default-src"] == "'none'"
    for kind, file in (("style-src", "page.css"), ("script-src", "page.js")):
        text = (FOLDER / file).read_bytes()
        assert text.decode() in hostile
        assert rules[kind] == f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
    assert hostile.index("Content-Security-Policy") < hostile.index("<style>")


def test_the_packed_runs_hold_each_runs_evidence(hostile: str) -> None:
    text = hostile.split('id="data">', 1)[1].split("</script>", 1)[0]
    assert "<" not in text
    data = json.loads(text)
    row = next(row for row in data["runs"] if row[0].startswith("evaluate"))
    words, id = data["words"], row[0]
    assert HOSTILE in " ".join(words[word] for word in row[1])
    (tried,) = row[4]
    assert words[tried[4]] + id + words[tried[5]] == (
        f"/home/someone/.venv/bin/python -m lwspec.kernels.run runs/{id}"
    )
    ((shape, _, *values),) = row[5]
    _, metrics, files = data["shapes"][shape]
    assert files[0] == "evaluation.json"
    sha = base64.b64decode(values[len(metrics)] + "==").hex()
    assert sha == digest(f"{id}evaluation.json")[:32]
    inputs = dict(zip(row[6][::2], row[6][1::2], strict=True))
    assert data["runs"][inputs[words.index("fit")]][0].startswith("fit-")


def test_the_same_records_give_the_same_page(
    copy_of_finished: Callable[[], Project], tmp_path: Path
) -> None:
    project = copy_of_finished()
    for name in ("one", "two"):
        project.run("report", "small.toml", "--html", str(tmp_path / name))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert not (project.folder / "paper").exists()


def test_the_page_and_the_paper_can_be_written_together(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    done = project.run("report", "small.toml", "--html", "page.html", "--paper", "there")
    assert "wrote page.html" in done.stdout
    assert (project.folder / "there/tables/main.tex").exists()
    project.run("report", "small.toml")
    assert (project.folder / "paper/tables/main.tex").exists()


def test_the_page_goes_into_a_folder_that_exists(project: Project) -> None:
    done = project.run("report", "small.toml", "--html", "nowhere/page.html", status=2)
    assert "nowhere/page.html: --html names a file in a folder that does not exist" in done.stderr
    assert "next: mkdir -p nowhere" in done.stderr
    done = project.run("report", "small.toml", "--html", ".", status=2)
    assert "--html names a folder" in done.stderr
    done = project.run("report", "small.toml", "--html", "page.html", status=1)
    assert "no run of this spec has finished" in done.stderr
    assert not (project.folder / "page.html").exists()


def test_ticks_are_round_and_few() -> None:
    for low, high in ((0.0, 1.0), (47.6, 90.6), (-3.2, 0.004), (1e-9, 3e-9), (5.0, 5.0), (0, 1e6)):
        scale, ticks = value_scale([low, high], 0.0, 300.0)
        assert 2 <= len(ticks) <= 8, (low, high, ticks)
        assert all(scale.low <= tick <= scale.high for tick in ticks)
        assert len({tick_text(tick) for tick in ticks}) == len(ticks)
    scale, ticks = place_scale([2, 4, 8, 16], 0.0, 300.0, doubling=True)
    assert ticks == [2, 4, 8, 16]
    gaps = [scale(b) - scale(a) for a, b in zip(ticks, ticks[1:], strict=False)]
    assert max(gaps) - min(gaps) < 1e-9
    _, ticks = place_scale([21.05, 28.6, 5120, 20480], 0.0, 300.0, doubling=True)
    assert all(tick > 0 and (tick % 16 == 0) for tick in ticks)
    _, ticks = place_scale([float(epoch) for epoch in range(1, 13)], 0.0, 300.0, doubling=False)
    assert ticks == [2, 4, 6, 8, 10, 12]
    _, ticks = place_scale([100, 200, 1000, 10000], 0.0, 300.0, doubling=False)
    assert ticks == [100, 10000] or len(ticks) == 3


def test_no_two_series_of_a_figure_look_alike() -> None:
    looks = {(n % len(COLOURS), MARKERS[n % len(MARKERS)], DASHES[n % 4]) for n in range(28)}
    assert len(looks) == 28


def test_the_pages_parts_stay_small() -> None:
    for path in FOLDER.iterdir():
        if path.is_file():
            assert len(path.read_text().splitlines()) < 300, path
