"""Every arm, one file each: a file in this folder that defines `ARM` is an arm."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from lwspec.engine.arm import ArmDeclaration
from lwspec.kernels.arm import Arm


@cache
def all_arms() -> dict[str, Arm]:
    """Arms by name; reading them imports no torch."""
    modules = [
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
    ]
    arms: list[Arm] = [module.ARM for module in modules]
    return {arm.declaration.name: arm for arm in arms}


def declarations() -> dict[str, ArmDeclaration]:
    """What the planner knows of each arm."""
    return {name: arm.declaration for name, arm in all_arms().items()}
