"""Measurements as offline runs of Weights & Biases, written by its own client: `wandb sync`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lwspec.report.export.trackers import Tracked, client, new_place


def write_wandb(spec: str, runs: Sequence[Tracked], folder: Path) -> list[Path]:
    """A project with the spec's name, and an offline run in it for each measurement."""
    wandb = client("wandb", "wandb")
    place = new_place(folder / "wandb")
    quiet = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,  # this is not where and when it ran: config and summary say that
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
    )
    for run in runs:
        made = wandb.init(
            mode="offline",
            dir=str(folder),
            project=spec,
            id=run.id,
            name=run.name,
            group=run.group,
            config={**run.settings, "lwspec": dict(run.tags)},
            settings=quiet,
        )
        for step, values in run.curves:
            made.log(dict(values), step=step)
        made.summary.update({**run.metrics, "started": run.started_at, "ended": run.ended_at})
        made.finish()
    return [place]
