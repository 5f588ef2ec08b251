"""Specs: their text checked, and expanded into a plan."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.mutation import Choices, tokens

ROOT = Path(__file__).parent.parent.parent
Case = Callable[[Choices], None]


def write(path: Path, text: str) -> None:
    """Text as a file holds it; what is no Unicode becomes bytes that are no UTF-8."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def spec_text(world: Path, folder: Path) -> Case:
    """Every real spec, from its bytes to the checked model."""
    from lwspec.engine.spec.load import load
    from lwspec.kernels.arms import declarations

    small, *others = [world / "small.toml", *sorted(ROOT.glob("specs/*.toml"))]
    seeds = [tokens(path.read_text()) for path in (*others, *[small] * len(others))]
    path, arms = folder / "spec.toml", declarations()
    shutil.copy(world / "paper.tex", folder)

    def case(choices: Choices) -> None:
        write(path, choices.text(seeds))
        load(path, arms)

    return case


def plan(world: Path, folder: Path) -> Case:
    """Specs of models and data that are there, as far as cells, jobs and prices."""
    from lwspec.engine.executors.submit import plan_record
    from lwspec.engine.plan.expand import expand
    from lwspec.engine.plan.fingerprint import Fingerprints
    from lwspec.engine.plan.locate import locate
    from lwspec.engine.plan.plan import make_plan
    from lwspec.engine.plan.records import Records
    from lwspec.engine.spec.load import arm_files, load
    from lwspec.kernels.arms import declarations

    shutil.copytree(world, folder, dirs_exist_ok=True)
    named = ("quickstart.toml", "small.toml")
    seeds, path, arms = (
        [tokens((world / n).read_text()) for n in named],
        folder / "s.toml",
        declarations(),
    )
    fingerprints = Fingerprints(folder / "fingerprints.json")
    nothing = Records({}, {}, (), {}, {}, {})

    def case(choices: Choices) -> None:
        write(path, choices.text(seeds))
        arm_files(path)
        loaded = load(path, arms)
        located = locate(loaded, fingerprints)
        expansion = expand(loaded, arms, located)
        made = make_plan(loaded, expansion, arms, located, nothing, {}, {}, (), None)
        plan_record(made)

    return case
