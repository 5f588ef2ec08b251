"""All of the kernels' code in memory: what is edited afterwards is in no number of this process.

Arms import what they need when they need it, hours after a plan was submitted.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import lwspec.kernels
from lwspec.engine.runs.evidence import PACKAGE, code_digest, digest_of
from lwspec.errors import CodeError


@cache
def import_everything() -> None:
    """Import every module of the kernels, once in a process.

    Raises CodeError where the code changed between its being named and the end of this.
    """
    named = code_digest()
    for found in pkgutil.walk_packages(lwspec.kernels.__path__, f"{lwspec.kernels.__name__}."):
        if found.name != f"{lwspec.kernels.__name__}.preload":
            importlib.import_module(found.name)
    if digest_of(PACKAGE) != named:
        raise CodeError(
            "the code changed while it was imported", where=str(PACKAGE), remedy="submit again"
        )
