"""Records as long as real ones, made up for tests of the page's size and of what it escapes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from conftest import SPEC, Project

from lwspec.cli.session import open_session
from lwspec.engine.job import Job
from lwspec.engine.plan.plan import Plan
from lwspec.report.content import Content, make_content
from lwspec.report.evidence import Evidence
from lwspec.report.numbers import Numbers
from lwspec.report.query import Output, Results

METRICS = ("accuracy", "first_token_accuracy", "macro_f1", "message_bytes", "strict_accuracy")
OF_EPOCHS = ("train_loss", "validation_accuracy", "validation_macro_f1")


class WithoutItems(Numbers):
    """Numbers from the metrics alone: there are no predictions on disk."""

    def _items(self, outputs: Any, metric: str) -> None:
        return None


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def share(text: str) -> float:
    """A number between 0 and 1 with all its digits."""
    return int(digest(text)[:13], 16) / 16**13


def output(job: Job, name: str) -> Output:
    files, facts = {f"rows/{name}.parquet": digest(job.id)}, {"n": 30, "subset": False}
    metrics = {metric: share(f"{job.id} {name} {metric}") for metric in METRICS}
    if job.kind == "fit":
        metrics = {metric: share(f"{job.id} {name} {metric}") for metric in OF_EPOCHS}
        files, facts = {f"weights/{name}.safetensors": digest(f"{job.id}{name}")}, {"samples": 48}
    elif job.kind == "latency":
        parts = ("sender", "adapter", "prefill", "decode", "total")
        names = [f"{part}_ms{end}" for part in parts for end in ("", "_sd", "_p95")]
        metrics = {metric: 100 * share(f"{job.id}{metric}") for metric in names}
        files, facts = {"evaluation.json": digest(job.id)}, {"passes": 5, "hardware": "H100"}
    elif job.kind == "evaluate":
        files = {
            file: digest(f"{job.id}{file}") for file in ("evaluation.json", "predictions/test")
        }
    return Output(job.id, name, 1, metrics, files, facts)


def attempt(job: Job) -> dict[str, Any]:
    return {
        "number": 1, "outcome": "finished", "git_sha": digest("commit")[:40], "dirty": False,
        "command": f"/home/someone/.venv/bin/python -m lwspec.kernels.run runs/{job.id}",
        "hardware": "</script><script>window.broken = 1</script>", "host": f"node{len(job.id) % 7}",
        "device_s": 100 * share(job.id), "evidence": {"packages": {"torch": "2.13.0"}},
    }  # fmt: skip


def evidence(plan: Plan) -> Evidence:
    jobs = plan.expansion.jobs
    return Evidence(
        {(job.id, 1): attempt(job) for job in jobs.values()},
        {job: (1,) for job in jobs},
        {job.id: (job.kind, job.label) for job in jobs.values()},
        {
            str(job): str(cell.seed)
            for cell in plan.expansion.cells
            for job in (cell.evaluate, cell.fit)
        },
        1.8e9,
    )


def made_up(project: Project, folder: Path) -> Content:
    """The content of a project's spec as if all of it had run."""
    plan = open_session(project.spec, folder / "results.db", project.runs).plan
    outputs = {
        job.id: {name: output(job, name) for name in job.outputs}
        for job in plan.expansion.jobs.values()
    }
    return make_content(plan, WithoutItems(plan, Results(outputs), project.runs), evidence(plan))


HOSTILE = """_%&#${}\\~^<b>"'é<\u2028!--<img src=x onerror=broken=1>"""
"""A name that a spec may have."""


def hostile_spec() -> str:
    """Every kind of figure, a claim and a test, of things whose names try to break out."""
    name = json.dumps(HOSTILE)
    text = SPEC.replace("[tasks.colour]", f"[tasks.{name}]").replace('["colour"]', f"[{name}]")
    text = text.replace("seeds = [1, 2]", f"seeds = {list(range(1, 13))}").replace(
        "Learning.", "</script>"
    )
    text = text.split("[[experiment]]")[0]
    escape = json.dumps(f"</title></style></script></svg>{HOSTILE}")
    layer = "bridge = { layer = 1, width = 16, depth = 1, heads = 2 }"
    parts = [
        f'[[experiment]]\nname = {name}\narms = ["bridge"]\n{layer}\n'
        'sweep = { "bridge.latents" = [2, 4, 8] }',
        '[[experiment]]\nname = "timed"\narms = ["bridge", "receiver_direct"]\n'
        "bridge = { layer = 1, width = 16, latents = 2, depth = 1, heads = 2 }\n"
        "latency = { new_tokens = 2 }",
        f"[[table]]\nname = {name}\nexperiments = [{name}]\ncaption = {escape}\n"
        'compare.to = "bridge (latents=2)"',
        f"[[claim]]\nname = {name}\nsays = {escape}\notherwise = {escape}\nright = 50.0\n"
        f"left = {json.dumps(f'{HOSTILE}:bridge (latents=4)/{HOSTILE}')}",
    ]
    kinds = {
        "sweep": name,
        "arms": name,
        "bytes": name,
        "learning_curves": name,
        "latency": '"timed"',
    }
    parts += [
        f"[[figure]]\nname = {json.dumps(f'{kind}<i>')}\nkind = {json.dumps(kind)}\n"
        f"experiments = [{home}]\ncaption = {escape}"
        for kind, home in kinds.items()
    ]
    return text + "\n\n".join(parts)
