"""lwspec: declare, price, run and publish experiments with latent bridges between frozen models.

From Python it does what the command line does; `lwspec.api` says how.

    spec = lwspec.load("specs/quickstart.toml")
    print(lwspec.plan(spec))
    lwspec.submit(spec, progress=print)
    lwspec.results(spec)  # a pandas DataFrame
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.3.0"

if TYPE_CHECKING:
    from lwspec.api import (
        Plan,
        Project,
        Report,
        Status,
        cancel,
        estimates,
        export,
        load,
        logs,
        plan,
        points,
        results,
        retry,
        runs,
        status,
        submit,
        why,
        write_report,
    )
    from lwspec.errors import LwspecError

__all__ = [
    "LwspecError",
    "Plan",
    "Project",
    "Report",
    "Status",
    "__version__",
    "cancel",
    "estimates",
    "export",
    "load",
    "logs",
    "plan",
    "points",
    "results",
    "retry",
    "runs",
    "status",
    "submit",
    "why",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for: jobs and short commands import this package and need none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("lwspec.errors" if name == "LwspecError" else "lwspec.api"), name)


def __dir__() -> list[str]:
    return __all__
