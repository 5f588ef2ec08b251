"""What the targets read before it is damaged: a project with models, rows, specs and real runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def make_world(folder: Path) -> None:
    """The tests' own project, a job that ran, a fit's files as kernels write them, a submission."""
    import torch

    sys.path.insert(0, str(ROOT / "tests"))
    from conftest import SPEC, make_pair, make_rows

    from lwspec.engine.executors.slurm.submission import intend
    from lwspec.engine.runs.runfolder import Runs
    from lwspec.kernels.data.stored import write_pooled, write_states
    from lwspec.kernels.training.checkpoint import Progress, optimizer_tensors, save_checkpoint

    make_pair(folder / "models")
    make_rows(folder / "data")
    for file in (folder / "models").rglob("*.safetensors"):
        file.write_bytes(b"weights")  # nothing here opens them
    (folder / "small.toml").write_text(SPEC)
    shutil.copy(ROOT / "specs/quickstart.toml", folder)
    shutil.copy(ROOT / "specs/paper.tex", folder)
    shutil.copytree(ROOT / "specs/paper", folder / "paper")
    for command in (["plan"], ["submit", "--only", "data topic", "--yes"], ["plan"]):
        subprocess.run(
            [sys.executable, "-m", "lwspec", command[0], "quickstart.toml", *command[1:]],
            cwd=folder, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    runs = Runs(folder / "runs")
    (name,) = runs.listed()
    job = runs.folder(name)
    attempt = job.attempts()[-1]
    attempt.append_event("metric", step=10, values={"train_loss": 0.5})
    attempt.append_event("progress", done=1, total=2, what="epoch 1", device_s=1.5)
    job.cancel()
    module = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    weights, moments = module.state_dict(), optimizer_tensors(optimizer)
    save_checkpoint(folder / "checkpoints", weights, moments, Progress(2, 3, 20, 0.5))
    write_states(folder / "stored" / "states.safetensors", [torch.ones(2, 4), torch.ones(1, 4)], 4)
    write_pooled(folder / "stored" / "pooled.safetensors", [torch.ones(3, 4)] * 2, 4)
    packs = [{"id": "pack-1", "jobs": [job.path.name]}]
    told = {"cluster": "here", "after": [], "minutes": 60, "code": None, "retries": {"killed": 2}}
    intend(runs, "quickstart", {**told, "packs": packs}).record_id("12")
