"""Every arm, one file each: a file that defines `ARM`, in this folder or named by a spec."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from lwspec.engine.arm import ArmDeclaration, deviations_in
from lwspec.engine.runs.checksum import sha256_of
from lwspec.errors import SpecError
from lwspec.kernels.arm import Arm


@cache
def all_arms() -> dict[str, Arm]:
    """Arms of this folder by name; reading them imports no torch."""
    modules = [
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
    ]
    arms: list[Arm] = [_documented(module.ARM, module) for module in modules]
    return {arm.declaration.name: arm for arm in arms}


@cache
def read_arm(file: Path) -> Arm:
    """The arm that a file outside this folder defines. Raises SpecError where it defines none."""
    name = f"lwspec_arm_{file.stem}"
    found = importlib.util.spec_from_file_location(name, file)
    if not file.is_file() or found is None or found.loader is None:
        raise SpecError("no Python file stands here", where=str(file), remedy="mend arm_files")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # where pydantic looks for what annotations name
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"the arm cannot be imported: {type(error).__name__}: {error}",
            where=str(file),
            remedy=f"python {file}",
        ) from error
    arm = getattr(module, "ARM", None)
    if not isinstance(arm, Arm):
        raise SpecError("defines no ARM", where=str(file), remedy="see docs/arms.md")
    declared = replace(arm.declaration, file=str(file), sha256=sha256_of(file))
    return _documented(replace(arm, declaration=declared), module)


def _documented(arm: Arm, module: ModuleType) -> Arm:
    """The arm with the deviations that its file states."""
    stated = deviations_in(module.__doc__)
    return replace(arm, declaration=replace(arm.declaration, deviations=stated))


def declarations(files: Sequence[Path] = ()) -> dict[str, ArmDeclaration]:
    """What the planner knows of each arm, of those in `files` too.

    Raises SpecError for a file that defines no arm, or one whose name is taken.
    """
    known = {name: arm.declaration for name, arm in all_arms().items()}
    for file in files:
        declared = read_arm(file).declaration
        if declared.name in known:
            raise SpecError(
                f"there is an arm {declared.name!r} already",
                where=str(file),
                remedy="name it otherwise",
            )
        known[declared.name] = declared
    return known
