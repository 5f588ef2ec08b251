"""A PostgreSQL server of the tests' own, in a temporary folder, which no network reaches."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL

from lwspec.engine.store.database import address

PASSWORD = "canary-of-locked"
"""Of the user `locked`; all others come in without one."""
RULES = "local all locked scram-sha-256\nlocal all all trust\n"
SETTINGS = {"listen_addresses": "", "fsync": "off", "timezone": "Asia/Tokyo", "jit": "off"}


def programs() -> Path | None:
    """Where initdb and postgres lie, None where they are not installed."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(on_path).parent if on_path else found[-1].parent if found else None


def _unprivileged() -> dict[str, Any]:
    """As whom to run them, since they refuse root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Server:
    """A server, started; `database` makes an empty database and gives its address."""

    def __init__(self, binaries: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postgres"))
        self._made = 0
        who = _unprivileged()
        if who:
            os.chown(self.folder, who["user"], who["group"])
        data, log = self.folder / "data", self.folder / "log"
        make = [binaries / "initdb", "-D", data, "-U", "owner", "-E", "UTF8", "--no-sync", "-A"]
        subprocess.run([*make, "trust"], check=True, capture_output=True, cwd=self.folder, **who)
        (data / "pg_hba.conf").write_text(RULES)
        settings = {**SETTINGS, "unix_socket_directories": str(self.folder)}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [binaries / "postgres", "-D", data, *options],
                stdout=out, stderr=out, cwd=self.folder, **who,
            )  # fmt: skip
        self._until_it_answers(log)
        self.execute(f"CREATE ROLE locked LOGIN PASSWORD '{PASSWORD}'")

    def _until_it_answers(self, log: Path) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            else:
                return

    def execute(self, statement: str) -> None:
        """Let the server's owner do something outside any transaction."""
        with psycopg.connect(host=str(self.folder), user="owner", dbname="postgres") as connection:
            connection.autocommit = True
            connection.execute(statement)

    def has_left(self, program: str) -> bool:
        """Whether nothing that calls itself so is connected any more, within seconds."""
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        deadline = time.monotonic() + 5
        with psycopg.connect(host=str(self.folder), user="owner", dbname="postgres") as connection:
            connection.autocommit = True
            while connection.execute(count, [program]).fetchone() != (0,):
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.02)
        return True

    def address(self, name: str, user: str = "owner") -> str:
        """What a person types to name a database."""
        return f"postgresql+psycopg://{user}@/{name}?host={self.folder}"

    def database(self) -> tuple[str, URL]:
        """An empty database: what a person types, and its address."""
        self._made += 1
        self.execute(f"CREATE DATABASE made_{self._made}")
        text = self.address(f"made_{self._made}")
        return text, address(text)

    def stop(self) -> None:
        """Stop it and drop all of it."""
        self._process.send_signal(2)  # it drops its connections and ends
        self._process.wait(60)
        shutil.rmtree(self.folder)


@contextmanager
def running() -> Iterator[Server]:
    """A server for as long as it is wanted; tests are skipped where its programs are missing."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL's programs are missing: apt-get install postgresql")
    started = Server(binaries)
    try:
        yield started
    finally:
        started.stop()
