"""The paper: templates, references to entries, and texts into LaTeX."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.fuzz.mutation import Choices, tokens
from tests.fuzz.specs import Case, write


def _content(folder: Path) -> tuple[object, object]:
    """A plan of the quickstart without any runs, and what its report would hold."""
    from lwspec.cli.session import open_session
    from lwspec.report.content import make_content
    from lwspec.report.evidence import NO_EVIDENCE
    from lwspec.report.numbers import Numbers
    from lwspec.report.query import Results

    session = open_session(folder / "quickstart.toml", folder / "results.db", folder / "runs")
    numbers = Numbers(session.plan, Results({}), folder / "runs")
    return session.plan, make_content(session.plan, numbers, NO_EVIDENCE)


def template(world: Path, folder: Path) -> Case:
    """A template, filled, and held against what nothing fills and what must not be said."""
    from lwspec.report.paper.contract import fill_known, unsaid, unused
    from lwspec.report.paper.macros import macros, values
    from lwspec.report.paper.words import words
    from lwspec.report.refs import pairs_of

    shutil.copytree(world, folder, dirs_exist_ok=True)
    plan, content = _content(folder)
    layouts = [data.layout for data in content.tables]
    named = macros(plan, layouts, pairs_of(plan, layouts))
    known = words(content, values(named, content))
    artefacts = {"numbers.tex", *(each.layout.path for each in content.tables)}
    pieces = [folder / "paper.tex", *(folder / "paper").rglob("*.tex")]
    seeds = [tokens(piece.read_text()) for piece in pieces]
    path = folder / "template.tex"

    def case(choices: Choices) -> None:
        write(path, choices.text(seeds))
        filled, _ = fill_known(path, "paper.tex", known, artefacts)
        unused(plan, filled, layouts, named)
        unsaid(filled, {}, content.claims, ("latent",), (), plan.loaded.source)

    return case


def references(world: Path, folder: Path) -> Case:
    """References to entries of tables, as claims and `why` make them, and texts into LaTeX."""
    from lwspec.report.paper.latex import escape, escape_label, macro_name
    from lwspec.report.refs import entry_names, resolve

    shutil.copytree(world, folder, dirs_exist_ok=True)
    _, content = _content(folder)
    layouts = [data.layout for data in content.tables]
    seeds = [tokens(name) for name in entry_names(layouts)]

    def case(choices: Choices) -> None:
        text = choices.text(seeds)
        macro_name(text)
        escape_label(text)
        escaped = escape(text)
        assert "\n" not in escaped
        resolve(text, layouts)

    return case


def docstrings(world: Path, folder: Path) -> Case:
    """What an arm's file says of its deviations, which stands below tables."""
    import importlib

    from lwspec.engine.arm import deviations_in
    from lwspec.kernels.arms import all_arms
    from lwspec.report.paper.latex import escape

    modules = [importlib.import_module(f"lwspec.kernels.arms.{name}") for name in all_arms()]
    seeds = [tokens(module.__doc__ or "") for module in modules]

    def case(choices: Choices) -> None:
        stated = deviations_in(choices.text(seeds))
        assert "\n" not in escape(stated)

    return case
