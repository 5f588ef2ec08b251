"""The share of the gap between no message and the whole text, and what arms cost, in tables."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy
import pytest
from conftest import Project
from made_up import evidence, output

from lwspec.cli.session import open_session
from lwspec.engine.store.store import Store
from lwspec.report.content import make_content
from lwspec.report.numbers import Numbers
from lwspec.report.query import Output, Results, read_results
from lwspec.report.statistics.choose import Items
from lwspec.report.statistics.gap import recovered_gap
from lwspec.report.tables.caption import caption
from lwspec.report.tables.notes import notes
from lwspec.report.tables.plain import markdown_table

N = 200
NAMES = tuple(f"item {number}" for number in range(N))


def items(*rows: Sequence[float], names: tuple[str, ...] = NAMES) -> Items:
    return Items(names, numpy.array(rows, dtype=float))


def right(share: float, seed: int = 0, runs: int = 1) -> list[list[float]]:
    """Right and wrong of runs whose share of right items is `share` on the mean."""
    source = numpy.random.default_rng(seed)
    ease = source.random(N)
    noise = source.normal(0, 0.05, (runs, N))
    return ((ease + noise) < share).astype(float).tolist()


NONE, TEXT = items(*right(0.3)), items(*right(0.9))


def test_the_bounds_recover_nothing_and_everything() -> None:
    for arm, share in ((NONE, 0.0), (TEXT, 1.0)):
        found = recovered_gap(arm, NONE, TEXT, seeded=False)
        assert found is not None
        assert (found.mean, found.low, found.high) == (share, share, share)


def test_the_share_is_that_of_the_means_over_common_items() -> None:
    """The items stand in another order, and the arm lacks a tenth of them."""
    rows = right(0.6, runs=3)
    order = numpy.random.default_rng(1).permutation(N)[: N * 9 // 10]
    arm = items(*(numpy.array(rows)[:, order]), names=tuple(NAMES[place] for place in order))
    found = recovered_gap(arm, NONE, TEXT, seeded=True)
    sums = [0.0, 0.0, 0.0]
    for place in order:
        sums[0] += sum(row[place] for row in rows) / 3
        sums[1] += NONE.scores[0][place]
        sums[2] += TEXT.scores[0][place]
    assert found is not None and found.low is not None and found.high is not None
    assert found.mean == pytest.approx((sums[0] - sums[1]) / (sums[2] - sums[1]))
    assert found.low < found.mean < found.high


def test_items_are_resampled_together() -> None:
    """An arm that is right where the text helps, and on half of these: pairing narrows it."""
    none, text = [0.0] * N, [1.0] * N
    paired = recovered_gap(items([1.0, 0.0] * (N // 2)), items(none), items(text), seeded=False)
    spread = 1.96 * (0.25 / N) ** 0.5
    assert paired is not None and paired.low is not None and paired.high is not None
    assert paired.high - paired.low == pytest.approx(2 * spread, rel=0.05)


def test_seeds_widen_it_by_students_t() -> None:
    """Three seeds that score every item alike, but each another constant: no items' part."""
    levels = [0.4, 0.5, 0.6]
    arm = items(*([level] * N for level in levels))
    found = recovered_gap(arm, items([0.0] * N), items([1.0] * N), seeded=True)
    half = 4.302652729911275 * numpy.std(levels, ddof=1) / 3**0.5  # t of 2 degrees of freedom
    assert found is not None and found.low is not None and found.high is not None
    assert found.high - found.mean == pytest.approx(half, rel=0.05)
    assert found.mean - found.low == pytest.approx(half, rel=0.05)


def test_the_interval_holds_the_true_share() -> None:
    """Three seeds that differ by 3 points, over items that all arms find easy or hard alike."""
    source, share, held = numpy.random.default_rng(7), 0.6, 0
    for _ in range(200):
        ease = source.random(N)
        levels = 0.3 + 0.6 * share + source.normal(0, 0.03, 3)
        arm = items(*(ease[None, :] < levels[:, None]).astype(float).tolist())
        bounds = (items((ease < level).astype(float).tolist()) for level in (0.3, 0.9))
        found = recovered_gap(arm, *bounds, seeded=True)
        assert found is not None and found.low is not None and found.high is not None
        held += found.low <= share <= found.high
    assert 0.92 <= held / 200 <= 0.99


def test_one_seed_has_no_interval() -> None:
    found = recovered_gap(items(*right(0.6)), NONE, TEXT, seeded=True)
    assert found is not None
    assert found.low is None


def test_without_a_gap_there_is_no_share() -> None:
    near = items(*right(0.31, seed=3))
    assert recovered_gap(TEXT, NONE, near, seeded=False) is None
    assert recovered_gap(TEXT, TEXT, NONE, seeded=False) is None


GAP = 'name = "main"\nmetric = ["accuracy", "recovered_gap"]\nexperiments'


class Drawn(Numbers):
    """Numbers of a finished plan, with made-up scores of items."""

    def _items(self, outputs: Sequence[Output], metric: str) -> Items | None:
        shares = {"no_message": 0.3, "receiver_direct": 0.9}
        arm = self.plan.expansion.jobs[outputs[0].job].step
        return items(*right(shares.get(arm, 0.6), runs=len(outputs)))


def tables(project: Project, numbers: type[Numbers] = Drawn) -> Any:
    plan = open_session(project.spec, project.folder / "results.db", project.runs).plan
    outputs = {
        job.id: {name: output(job, name) for name in job.outputs}
        for job in plan.expansion.jobs.values()
    }
    made = make_content(plan, numbers(plan, Results(outputs), project.runs), evidence(plan))
    said = notes(made.tables[0], plan, made.evidence)
    return made, markdown_table(made.tables[0], caption(made.tables[0]), said)


def test_a_table_shows_the_gap(project: Project) -> None:
    project.change('name = "main"\nexperiments', GAP)
    project.change('caption = "Acc', 'compare.to = "text_relay"\ncaption = "Acc')
    content, text = tables(project)
    entry = content.tables[0].entries["bridge", "recovered gap"]
    assert 40 < entry.estimate.mean < 60
    assert [group.arm for group in entry.bounds] == ["no_message", "receiver_direct"]
    assert "| no_message | " in text
    assert "0.0 [0.0, 0.0]" in text and "100.0 [100.0, 100.0]" in text
    formula = "(score - no_message) / (receiver_direct - no_message), of accuracy."
    assert f"Recovered gap: {formula}" in text
    assert "Brackets: 95% bootstrap over test items, Student's t over seeds (recovered gap)" in text
    assert {column for _, column in content.tables[0].tests} == {"accuracy"}


def test_a_gap_that_is_none_says_so(finished: Project) -> None:
    """The receiver is untrained: the text does not help it."""
    before = finished.spec.read_text()
    try:
        finished.change('name = "main"\nexperiments', GAP)
        done = finished.run("report", "small.toml", "--paper", "gap")
        jobs = json.loads(finished.run("why", "main:bridge/recovered gap", "--json").stdout)["jobs"]
    finally:
        finished.write(before)
    assert "gap" not in done.stdout.replace("paper/gap", "").replace("gap/", "")
    text = (finished.folder / "gap/results.md").read_text()
    assert "| no gap |" in text
    assert "receiver_direct is not above no_message beyond chance" in text
    labels = {job["label"] for job in jobs}
    assert {"bridge colour s1", "no_message colour", "receiver_direct colour"} <= labels


@pytest.mark.parametrize("lacking", ["no_message", "receiver_direct"])
def test_a_gap_without_its_bounds_is_refused(project: Project, lacking: str) -> None:
    project.change(f'"{lacking}"', '"few_shot"')
    project.change('name = "main"\nexperiments', GAP)
    said = project.run("plan", "small.toml", status=2).stderr
    line = project.spec.read_text().split('"recovered_gap"')[0].count("\n") + 1
    assert f"small.toml:{line}:" in said
    assert f"lack {lacking} on colour with the receiver 'mistral'" in said


def test_bounds_are_of_the_same_receiver(project: Project) -> None:
    project.change(
        'name = "main"\narms', 'name = "main"\nsender = "mistral"\nreceiver = "llama"\narms'
    )
    project.change('name = "main"\nexperiments', GAP)
    said = project.run("plan", "small.toml", status=2).stderr
    assert "lack no_message and receiver_direct on colour with the receiver 'llama'" in said


def test_bounds_need_no_rows_of_their_own(project: Project) -> None:
    project.change('name = "main"\nexperiments', f'name = "main"\narms = ["bridge"]\n{GAP[14:]}')
    content, _ = tables(project)
    assert 40 < content.tables[0].entries["bridge", "recovered gap"].estimate.mean < 60


@pytest.mark.parametrize("metric", ["recovered_gap", "parameters", "gpu_seconds"])
def test_a_figure_draws_only_what_was_measured(project: Project, metric: str) -> None:
    project.change('kind = "learning_curves"', f'kind = "arms"\nmetric = "{metric}"')
    said = project.run("plan", "small.toml", status=2).stderr
    assert f"{metric} is recorded by no experiment of figure" in said


def test_a_table_shows_what_arms_cost(finished: Project) -> None:
    before = finished.spec.read_text()
    metrics = '["parameters", "gpu_seconds", "message_bytes"]'
    try:
        finished.change('name = "main"\nexp', f'name = "main"\nmetric = {metrics}\nexp')
        finished.run("report", "small.toml", "--paper", "cost")
        plan = open_session(finished.spec, finished.folder / "results.db", finished.runs).plan
    finally:
        finished.write(before)
    text = (finished.folder / "cost/results.md").read_text()
    results = read_results(Store(finished.folder / "results.db", shared=False))
    cells = {cell.seed: cell for cell in plan.expansion.cells if cell.arm == "bridge"}
    seconds = 0.0
    for cell in cells.values():
        for job in (cell.fit, cell.evaluate):
            (ended,) = (finished.runs / str(job)).glob("attempt-1/exit.json")
            seconds += json.loads(ended.read_text())["device_s"] / len(cells)
    trained = results.epochs(cells[1])[0].facts["parameters"]
    # Four soft tokens of 24 numbers in bfloat16.
    assert f"| bridge | {trained:,} | {seconds:.1f} | {4 * 24 * 2:.1f} |" in re.sub(
        r" \[[^]]*\]", "", text
    )
    assert re.search(r"\| no_message \| 0 \| \d+\.\d \| n/a \|", text)
    assert "Parameters: those that are trained." in text
    assert "device seconds: in seconds. bytes: in bytes of a message." in text
    assert "all their attempts" in text


def test_a_longer_fit_is_charged_by_epochs(project: Project) -> None:
    """Two rows share a fit of two epochs, of which the shorter row pays for one."""
    project.keep("main")
    project.change("[[table]]", SHORT.lstrip())
    project.change('experiments = ["main"]\ncaption = "Acc', f'{SHOWN}\ncaption = "Acc')
    plan = open_session(project.spec, project.folder / "results.db", project.runs).plan
    jobs = plan.expansion.jobs.values()
    outputs = {job.id: {name: output(job, name) for name in job.outputs} for job in jobs}
    spent = {job.id: {"fit": 100.0, "evaluate": 7.0}.get(job.kind, 1000.0) for job in jobs}
    numbers = Drawn(plan, Results(outputs, spent), project.runs)
    entries = make_content(plan, numbers, evidence(plan)).tables[0].entries
    found = {row: entry.estimate.mean for (row, _), entry in entries.items()}
    assert found == {"bridge, main": 107.0, "bridge, short": 57.0}


SHORT = """
[[experiment]]
name = "short"
arms = ["bridge"]
bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }
train = { epochs = 1 }

[[table]]"""
SHOWN = 'experiments = ["main", "short"]\nmetric = "gpu_seconds"'
