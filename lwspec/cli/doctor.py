"""`lwspec doctor`: whether this machine has what experiments need, and how to mend it."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape

from lwspec import __version__
from lwspec.engine.executors.slurm import offers
from lwspec.engine.runs.file_system import NETWORKED, file_system, mounts
from lwspec.engine.spec.cluster import user_file
from lwspec.engine.spec.load import arm_files, load
from lwspec.engine.spec.loaded import LoadedSpec
from lwspec.errors import ClusterError
from lwspec.kernels.arms import declarations

State = Literal["ok", "note", "broken"]
MARKS: dict[State, str] = {"ok": "[green]ok[/]", "note": "[yellow]--[/]", "broken": "[red]no[/]"}
LEAST_DISK_GB = 20
LEAST_MEMORY_GB = 8
NOT_NEEDED = "not needed by this spec"


@dataclass(frozen=True)
class Finding:
    """What one look at the machine found; `mend` says what to do where it is not as it should."""

    name: str
    state: State
    what: str
    mend: str = ""


def main(options: argparse.Namespace) -> int:
    """Look at everything and say what to mend; 1 where something needed is broken."""
    console = Console(highlight=False, soft_wrap=True)
    broken = False
    path = options.spec
    spec = load(path, declarations(arm_files(path))) if path is not None else None
    for finding in look(options.runs, spec):
        broken |= finding.state == "broken"
        console.print(f"{MARKS[finding.state]} {finding.name:<9} {escape(finding.what)}")
        if finding.mend:
            console.print(f"{'':12} mend: {escape(finding.mend)}", style="dim")
    return 1 if broken else 0


def look(runs: Path, spec: LoadedSpec | None) -> Iterator[Finding]:
    """Every finding, in the order in which they would stand in somebody's way."""
    yield _python()
    yield from _torch(gpu_needed=spec is None or spec.spec.resources.gpus > 0)
    yield _memory()
    yield from _disk(runs)
    if spec is None or spec.spec.cluster or user_file().exists():
        yield from _slurm()
    else:
        yield Finding("slurm", "ok", NOT_NEEDED)
    yield _latex()
    yield from _hub(spec)


def _python() -> Finding:
    return Finding(
        "python", "ok", f"{platform.python_version()}, lwspec {__version__}, {sys.executable}"
    )


def _torch(*, gpu_needed: bool) -> Iterator[Finding]:
    """Torch as a process of its own imports it: a broken library takes that process alone along."""
    if importlib.util.find_spec("torch") is None:
        yield Finding("torch", "broken", "is not installed", "pip install torch")
        return
    asked = (
        "import torch; print(torch.__version__, torch.version.cuda or 'none', sep='\\n');"
        "c = torch.cuda; [print(c.get_device_name(n), round(c.mem_get_info(n)[1] / 2**30), 'GiB')"
        " for n in range(c.device_count())]"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        yield Finding("torch", "broken", last, "pip install --force-reinstall torch")
        return
    version, cuda, *gpus = done.stdout.splitlines()
    yield Finding("torch", "ok", version)
    if gpus:
        yield Finding("gpu", "ok", ", ".join(gpus))
    elif not gpu_needed:
        yield Finding("gpu", "ok", NOT_NEEDED)
    elif cuda != "none":
        mend = "nvidia-smi, the driver's version, CUDA_VISIBLE_DEVICES; on a cluster, a GPU node"
        yield Finding("gpu", "note", f"torch is built for CUDA {cuda} and sees no GPU", mend)
    else:
        mend = "a CUDA build of torch, or resources = { gpus = 0 } in the spec"
        yield Finding("gpu", "note", "this build of torch has no CUDA", mend)


def _memory() -> Finding:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0))
    what = f"{whole:.0f} GiB, {free:.0f} free; {cores} cores for this process"
    small = whole < LEAST_MEMORY_GB
    mend = f"models of billions of parameters are loaded through {LEAST_MEMORY_GB} GiB and more"
    return Finding("memory", "note" if small else "ok", what, mend if small else "")


def _disk(runs: Path) -> Iterator[Finding]:
    """Room where the run folders lie, and whether the database there can be trusted."""
    place = next(parent for parent in (runs.resolve(), *runs.resolve().parents) if parent.exists())
    free = shutil.disk_usage(place).free / 1e9
    state: State = "ok" if free >= LEAST_DISK_GB else "note"
    mend = "" if state == "ok" else "--runs elsewhere, or resources.states_gb in the spec"
    yield Finding("disk", state, f"{free:.0f} GB free for {runs}", mend)
    if not os.access(place, os.W_OK):
        yield Finding("runs", "broken", f"{place} cannot be written", "--runs elsewhere")
        return
    _, kind = file_system(place, mounts())
    if kind.startswith(NETWORKED):
        mend = "--db on a local disk: SQLite's locks may not hold across machines"
        yield Finding("runs", "note", f"{place} lies on {kind}, which other machines share", mend)
    else:
        yield Finding("runs", "ok", f"{place} lies on {kind}")


def _slurm() -> Iterator[Finding]:
    if shutil.which("sbatch") is None:
        yield Finding("slurm", "note", "not on this machine: submit runs jobs here")
        return
    try:
        found = offers.ask()
    except ClusterError as error:
        yield Finding("slurm", "note", error.what, "try it by hand; ask the cluster's support")
        return
    version = subprocess.run(["sbatch", "--version"], capture_output=True, text=True).stdout.strip()
    yield Finding("slurm", "ok", f"{version}, arrays of up to {found.most_elements - 1:,}")
    for one in found.partitions:
        gpus = ", ".join(sorted(f"{n} {kind or 'gpu'}" for kind, n in one.gpus)) or "no GPUs"
        limit = "no time limit" if one.minutes is None else f"{one.minutes} min"
        default = ", the default" if one.default else ""
        yield Finding("partition", "ok", f"{one.name}{default}: {limit}, {gpus} a node")
    if found.associations:
        accounts = sorted({one.account for one in found.associations})
        yield Finding("accounts", "ok", ", ".join(accounts))
    else:
        mend = "states then come from squeue and the run folders alone, which suffices"
        yield Finding("accounts", "note", "no accounting that answers", mend)


def _latex() -> Finding:
    if shutil.which("latexmk") is None:
        mend = "apt install latexmk texlive-latex-extra, or report writes all but the PDF"
        return Finding("latex", "note", "no latexmk", mend)
    engines = [name for name in ("pdflatex", "lualatex", "xelatex") if shutil.which(name)]
    if not engines:
        return Finding(
            "latex", "note", "latexmk without an engine", "apt install texlive-latex-base"
        )
    return Finding("latex", "ok", f"latexmk with {', '.join(engines)}")


def _hub(spec: LoadedSpec | None) -> Iterator[Finding]:
    """Whether each of a spec's hub models is here already, or granted to this user."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    api, token = HfApi(), get_token()
    models = {} if spec is None else _hub_models(spec)
    for repository, revision in models.items():
        if _cached(repository, revision):
            yield Finding("model", "ok", f"{repository} is in the cache")
            continue
        try:
            api.auth_check(repository)
        except GatedRepoError:
            mend = f"accept its terms at https://huggingface.co/{repository}, then hf auth login"
            yield Finding("model", "broken", f"{repository} is gated", mend)
        except RepositoryNotFoundError:
            yield Finding("model", "broken", f"{repository} is not on the hub", "mend its path")
        except Exception as error:  # whatever stands between here and there
            said = type(error).__name__
            mend = "the network; offline, models must lie in the cache or in folders"
            what = f"{repository}: the hub does not answer ({said})"
            yield Finding("model", "broken", what, mend)
        else:
            yield Finding("model", "ok", f"{repository} can be fetched")
    if spec is not None and not models:
        yield Finding("hub", "ok", NOT_NEEDED)
    elif token is None:
        mend = "hf auth login, where a spec names gated models"
        yield Finding("hub", "note", "nobody is logged in", mend)
    else:
        yield Finding("hub", "ok", "somebody is logged in")


def _hub_models(spec: LoadedSpec) -> dict[str, str | None]:
    """The models of a spec that are no folders and no toys, with their revisions."""
    models = [model for model in spec.spec.models.values() if model.path is not None]
    named = {str(model.path): model.revision for model in models}
    return {
        path: named[path] for path in sorted(named) if not (spec.source.path.parent / path).exists()
    }


def _cached(repository: str, revision: str | None) -> bool:
    """Whether all of a model's weights were fetched before, so that no hub has to answer."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json", revision=revision)
    if not isinstance(found, str):
        return False
    index = Path(found).with_name("model.safetensors.index.json")
    files = {"model.safetensors"}
    if index.exists():
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all(index.with_name(file).exists() for file in files)
