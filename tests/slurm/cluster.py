"""A real SLURM cluster of four nodes on one machine, below one folder, as plain processes."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
ACCOUNTING = ("slurmdbd", "mariadbd", "sacct")
NODES = ("n1", "n2", "n3", "n4")

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port_ctld}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket,cred_expire=8
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPidFile={root}/slurmctld.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdPidFile={root}/slurmd-%n.pid
SlurmdLogFile={root}/slurmd-%n.log
SlurmdSpoolDir={root}/spool/%n
StateSaveLocation={root}/state
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=200
SlurmdParameters=config_overrides
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
FirstJobId={first}
MaxArraySize=1001
MaxJobCount=5000
MinJobAge=300
InactiveLimit=0
KillWait=2
SlurmctldTimeout=30
SlurmdTimeout=10
BatchStartTimeout=10
MessageTimeout=10
CompleteWait=0
ReturnToService=2
{accounting}
NodeName=n[1-4] NodeHostname={host} NodeAddr=127.0.0.1 Port={port_nodes} CPUs=4 Boards=1 \
SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=120 PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=grace Nodes=ALL MaxTime=120 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 State=UP
PartitionName=gone Nodes=ALL MaxTime=120 PriorityTier=1 PreemptMode=CANCEL State=UP
PartitionName=high Nodes=ALL MaxTime=120 PriorityTier=10 PreemptMode=OFF State=UP
"""

WITH_DATABASE = """AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port_dbd}
AccountingStoragePass={root}/munge/socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits,qos"""

DATABASE = """
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port_dbd}
SlurmUser={user}
LogFile={root}/slurmdbd.log
PidFile={root}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={port_sql}
StorageUser=root
StoragePass=x
StorageLoc=slurm_acct_db
"""


def missing(accounting: bool) -> list[str]:
    """Programs that are not installed."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    wanted = (*PROGRAMS, *(ACCOUNTING if accounting else ()))
    return [program for program in wanted if shutil.which(program, path=path) is None]


@dataclass
class Cluster:
    """A cluster below `root`, whose path must be short: it holds unix sockets."""

    root: Path
    port: int
    accounting: bool

    @property
    def environment(self) -> dict[str, str]:
        """What every program that speaks to it needs."""
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        return {**os.environ, "SLURM_CONF": str(self.root / "slurm.conf"), "PATH": path}

    def run(self, *command: str, check: bool = True) -> str:
        """Run a program of the cluster's; its standard output."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=90
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def up(self) -> None:
        """Start it and wait until its nodes are idle and, with accounting, a job is accounted."""
        names = {
            "root": str(self.root),
            "host": socket.gethostname().partition(".")[0],
            "user": getpass.getuser(),
            "first": str(int(time.time()) % 60_000_000 + 1000),
            "port_ctld": str(self.port),
            "port_dbd": str(self.port + 1),
            "port_sql": str(self.port + 2),
            "port_nodes": f"{self.port + 11}-{self.port + 14}",
        }
        for folder in ("munge", "spool", "state", "db"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "munge").chmod(0o711)
        database = WITH_DATABASE.format(**names) if self.accounting else ""
        storage = database or "AccountingStorageType=accounting_storage/none"
        conf = CONF.format(**names, accounting=storage)
        (self.root / "slurm.conf").write_text(conf)
        gres = [f"NodeName=n[1-4] Name=gpu File={file}\n" for file in ("/dev/null", "/dev/zero")]
        (self.root / "gres.conf").write_text("".join(gres))
        (self.root / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self._munge()
        if self.accounting:
            self._storage(DATABASE.format(**names))
        self.controller()
        for node in NODES:
            (self.root / "spool" / node).mkdir(exist_ok=True)
            self.node(node)
        until(lambda: self.run("sinfo", "-h", "-N", "-p", "low", "-t", "idle").count("\n") == 4)
        if self.accounting:
            job = self.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "true").strip()
            until(lambda: "COMPLETED" in self.run("sacct", "-Xn", "-j", job, check=False))

    def _munge(self) -> None:
        key = self.root / "munge/key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        places = ("key-file=key", "socket=socket", "pid-file=pid", "log-file=log", "seed-file=seed")
        flags = [
            f"--{flag}={self.root}/munge/{name}" for flag, name in (p.split("=") for p in places)
        ]
        self.run("munged", *flags)

    def _storage(self, conf: str) -> None:
        tables = Path("/usr/share/mysql/mysql_system_tables.sql").read_bytes()
        common = [f"--user={getpass.getuser()}", f"--datadir={self.root}/db"]
        small = ["--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M"]
        subprocess.run(
            ["mariadbd", "--no-defaults", "--bootstrap", *common, small[0]],
            input=b"create database mysql;\nuse mysql;\n" + tables,
            env=self.environment, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        log = (self.root / "mariadb.log").open("wb")
        subprocess.Popen(
            [
                "mariadbd", "--no-defaults", *common, *small, f"--socket={self.root}/db/socket",
                f"--pid-file={self.root}/mariadb.pid", "--bind-address=127.0.0.1",
                f"--port={self.port + 2}", "--skip-grant-tables", "--skip-name-resolve",
                "--innodb-flush-log-at-trx-commit=0",
            ],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        until(lambda: listens(self.port + 2))
        path = self.root / "slurmdbd.conf"
        path.write_text(conf)
        path.chmod(0o600)
        self.database()

    def controller(self) -> None:
        """Start slurmctld, which goes on from its saved state."""
        self.run("slurmctld", "-i")
        until(lambda: "UP" in self.run("scontrol", "ping", check=False))

    def database(self) -> None:
        """Start slurmdbd."""
        self.run("slurmdbd")
        until(lambda: listens(self.port + 1))

    def configure(self, old: str = "", new: str = "") -> None:
        """Change slurm.conf as it was at first, and have it read; without a change, restore it."""
        path, first = self.root / "slurm.conf", self.root / "slurm.conf.first"
        if not first.exists():
            shutil.copy(path, first)
        assert old in first.read_text(), old
        path.write_text(first.read_text().replace(old, new) if old else first.read_text())
        self.run("scontrol", "reconfigure")

    def preempt(self) -> None:
        """Take every node for three seconds, with a job that goes before all others."""
        self.run(
            "sbatch", "--partition", "high", "--nodes", "4", "--exclusive", "--output",
            "/dev/null", "--wrap", "sleep 3",
        )  # fmt: skip

    def kill_node(self, name: str, job: str) -> None:
        """Kill a node's slurmd, and the step of its job with everything below it."""
        os.kill(self.pid(f"slurmd-{name}"), signal.SIGKILL)
        steps = [
            process
            for process in psutil.process_iter(["cmdline"])
            if f"slurmstepd: [{job}." in " ".join(process.info["cmdline"] or ())
        ]
        for process in [each for step in steps for each in (step, *step.children(True))]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def node(self, name: str) -> None:
        """Start the slurmd of a node."""
        self.run("slurmd", "-N", name)

    def pid(self, daemon: str) -> int:
        """The process of a daemon, by the name of its pid file."""
        return int((self.root / f"{daemon}.pid").read_text())

    def quiet(self) -> None:
        """Cancel everything, and have every node ready again."""
        self.run("scancel", "--user", getpass.getuser(), check=False)
        for node in NODES:
            pid = self.root / f"slurmd-{node}.pid"
            if not pid.exists() or not running(int(pid.read_text())):
                self.node(node)
        self.run("scontrol", "update", "nodename=ALL", "state=resume", check=False)
        until(lambda: not self.run("squeue", "-h").strip())
        until(lambda: self.run("sinfo", "-h", "-N", "-p", "low", "-t", "idle").count("\n") == 4)

    def down(self) -> None:
        """End every process of the cluster."""
        self.run("scancel", "--user", getpass.getuser(), check=False)
        daemons = [f"slurmd-{node}" for node in NODES]
        for daemon in (*daemons, "slurmctld", "slurmdbd", "mariadb", "munge/"):
            path = self.root / (f"{daemon}pid" if daemon.endswith("/") else f"{daemon}.pid")
            if path.exists() and path.read_text().strip():
                pid = int(path.read_text())
                if running(pid):
                    os.kill(pid, 15)
                    until(lambda pid=pid: not running(pid), 20)


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition, and no longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def listens(port: int) -> bool:
    """Whether something on this machine answers at a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def running(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
