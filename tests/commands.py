"""Commands of lwspec, each in a process of its own that is forked from one which has imported them.

Run as a program, this module is that process: it is sent requests, and answers each with the id of
the command's process and then its exit status. Tests of the start itself use an interpreter of
their own.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from pkgutil import iter_modules
from typing import IO, Any

ALSO = ("scipy.stats", "matplotlib.figure", "matplotlib.backends.backend_pdf", "jinja2")
"""What commands import when they come to it."""


class Commands:
    """Runs commands one after the other."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` is that of the process which has imported them."""
        self._pipe, its = Pipe()
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(its.fileno())],
            env=environment,
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
        )
        its.close()

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        timeout: float,
    ) -> subprocess.CompletedProcess[str]:
        """What a command in a folder printed, and its exit status. Raises TimeoutExpired."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            streams = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
            self._pipe.send((list(arguments), str(folder), dict(environment), streams))
            pid: int = self._pipe.recv()
            if not self._pipe.poll(timeout):
                os.kill(pid, signal.SIGKILL)
                self._pipe.recv()
                raise subprocess.TimeoutExpired(list(arguments), timeout)
            status: int = self._pipe.recv()
            said = [_whole(file) for file in (out, err)]
        return subprocess.CompletedProcess(["lwspec", *arguments], status, *said)


def _whole(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _serve(pipe: Connection[Any, Any]) -> None:
    """Fork a process for each request, and say how it ended."""
    import lwspec.cli

    for module in iter_modules(lwspec.cli.__path__, "lwspec.cli."):
        import_module(module.name)
    for name in ALSO:
        import_module(name)
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        pid = os.fork()
        if not pid:
            pipe.close()
            _become(*request)
            return
        pipe.send(pid)
        pipe.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _become(
    arguments: Sequence[str], folder: str, environment: Mapping[str, str], streams: Sequence[str]
) -> None:
    """`python -m lwspec` in the folder, as far as an interpreter of its own would be by then."""
    os.environ.clear()
    os.environ.update(environment)
    opened = [os.open(path, os.O_RDWR | os.O_APPEND) for path in streams]
    for place, stream in enumerate([os.open(os.devnull, os.O_RDONLY), *opened]):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv = ["lwspec", *arguments]
    runpy.run_module("lwspec", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
