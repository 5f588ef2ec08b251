"""A pack's process on this machine: `python -m lwspec.kernels.run FOLDER...`, started quickly.

Importing the kernels' libraries takes seconds, and a plan has hundreds of packs: packs that hold no
GPU are forked from one process that has imported them. CUDA does not survive a fork, so packs that
hold GPUs start an interpreter of their own; so do all where that process cannot be waited for.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

from lwspec.engine.redact import redact_stream

KERNELS = "lwspec.kernels.run"
IMPORTED_ONCE = "lwspec.kernels.preload"


def start_child(
    folders: Sequence[str], environment: Mapping[str, str], log: Path, forked: bool
) -> BaseProcess:
    """Start a process that runs jobs by their folders and writes what it prints to `log`."""
    arguments = (tuple(folders), dict(environment), log)
    process: BaseProcess
    with _main_left_out():
        if forked and _server_runs():
            server = multiprocessing.get_context("forkserver")
            process = server.Process(target=_run, args=arguments, daemon=True)
        else:
            spawn = multiprocessing.get_context("spawn")
            process = spawn.Process(target=_run, args=arguments, daemon=True)
        process.start()
    return process


def _server_runs() -> bool:
    """Start the process to fork from if need be; false where it is no child of this process.

    multiprocessing waits for it as for one, which fails where this process was itself forked from
    the one that had started it.
    """
    forkserver.set_forkserver_preload([IMPORTED_ONCE])
    try:
        forkserver.ensure_running()
    except ChildProcessError:
        return False
    return True


@contextmanager
def _main_left_out() -> Iterator[None]:
    """Keep the program that starts jobs out of their processes.

    multiprocessing has a child import it, so that a script which calls lwspec without a guard
    would begin anew in every job; and nothing of it is needed there.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _run(folders: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """In the child: do what the same command typed by hand would do."""
    _end_with_parent()
    os.setsid()  # Ctrl-C is for the command line, which asks its children to stop
    os.environ.update(environment)
    try:
        with log.open("ab", buffering=0) as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
    except OSError as error:  # a full disk; the executor counts that no attempt was begun
        print(f"lwspec: {log}: {error.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
    redact_stream(sys.stdout)
    redact_stream(sys.stderr)
    raise SystemExit(importlib.import_module(KERNELS).main(folders))


def _end_with_parent() -> None:
    """Ask this process to stop, as SIGTERM does, when the command line that started it dies."""
    executor = multiprocessing.parent_process()
    assert executor is not None

    def wait() -> None:
        executor.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
