"""What SLURM's programs print."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.fuzz.mutation import Choices, tokens
from tests.fuzz.specs import Case

SQUEUE = "12_0|quickstart-1|RUNNING|None\n12_[1-3,7%4]|quickstart-1|PENDING|JobHeldUser\n"
SACCT = "12_0|quickstart-1|CANCELLED by 0\n12_[0-2]|quickstart-1|NODE_FAIL\n"
QUEUED = "research|normal|gpu\nresearch|long|cpu\n"
SINFO = "gpu*|2-00:00:00|gpu:h200:4(S:0-1),gpu:2|96|1031000+|node1\ncpu|infinite|(null)|8|4000|n2\n"
CONFIG = (
    "MaxArraySize            = 1001\nClusterName             = here\n"
    "AccountingStorageType   = accounting_storage/slurmdbd\n"
    "AccountingStorageEnforce = associations,limits,qos\n"
)
SHOWN = "PartitionName=gpu AllowGroups=ALL QoS=part DefaultTime=NONE\n"
USER = "research|research|gpu|normal|normal,long|40|1-00:00:00\nresearch|other||normal|normal||\n"
QOS = "normal|10|20|40|2-00:00:00\nlong||||\n"
ANSWERS = {
    "squeue": SQUEUE, "sacct": SACCT, "queued": QUEUED, "sinfo": SINFO, "config": CONFIG,
    "partition": SHOWN, "user": USER, "qos": QOS,
}  # fmt: skip


def _which(command: list[str]) -> str:
    """Which answer a command gets."""
    if command[0] == "scontrol":
        return "partition" if "partition" in command else "config"
    if command[0] == "sacctmgr":
        return "user" if "user" in command else "qos"
    return "queued" if "--format=%a|%q|%P" in command else command[0]


def answers(world: Path, folder: Path) -> Case:
    """One program's answer is damaged; all are read, and an array is held against the offers."""
    from lwspec.engine.executors.slurm import offers as asked
    from lwspec.engine.executors.slurm import queue
    from lwspec.engine.executors.slurm.watch import watch
    from lwspec.engine.runs.runfolder import Runs
    from lwspec.engine.spec.cluster import Cluster
    from lwspec.errors import LwspecError

    shutil.copytree(world / "runs", folder / "runs")
    runs = Runs(folder / "runs")
    (name,) = (path.name for path in (folder / "runs/submissions").iterdir())
    texts = {key: text.replace("quickstart-1", name) for key, text in ANSWERS.items()}
    seeds = {key: [tokens(text)] for key, text in texts.items()}
    cluster, now = Cluster(partition="gpu"), dict(texts)

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, now[_which(command)], "")

    def case(choices: Choices) -> None:
        which = list(seeds)[choices.number(len(seeds) - 1)]
        choices.note(which)
        now.update({**texts, which: choices.text(seeds[which])})
        looks = {
            "squeue": lambda: watch(runs),
            "sacct": lambda: queue.sacct([name], 0.0),
            "queued": lambda: queue.in_queue("me"),
        }

        def offers() -> None:
            found = asked.ask()
            asked.check(cluster, found, 1, 1)
            found.allowed(cluster).room([{"account": "a", "qos": "normal", "partition": "gpu"}])

        with patch.object(subprocess, "run", run), patch.object(shutil, "which", lambda _: "here"):
            try:
                looks.get(which, offers)()
            except LwspecError as error:
                assert str(error).strip()
                raise

    return case
