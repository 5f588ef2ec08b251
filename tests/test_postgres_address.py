"""How a PostgreSQL server is named and what is said of one out of reach: never its password."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import PASSWORD, Server, running
from slurm.fixtures import HEAD, TAIL, TASK

from lwspec.cli import main
from lwspec.cli.arguments import parser
from lwspec.engine.redact import is_secret
from lwspec.engine.store.database import address, named
from lwspec.engine.store.store import Store
from lwspec.errors import StoreError, UsageError


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


def refused(typed: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `status` says of a database that it cannot use."""
    (folder / "small.toml").write_text(
        HEAD + TASK.format(name="s", seed=1) + TAIL.format(tasks='"s"')
    )
    assert main(["status", str(folder / "small.toml"), "--db", typed]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("lwspec: postgresql+psycopg://") and "\n  next: " in printed.err
    assert "canary" not in printed.err + printed.out
    return printed.err


def test_a_wrong_password_is_one_clear_error(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = server.address("postgres", user="locked:canary-wrong")
    assert 'password authentication failed for user "locked"' in refused(typed, tmp_path, capsys)
    right = address(server.address("postgres", user=f"locked:{PASSWORD}"))
    with pytest.raises(StoreError, match="permission denied") as caught:
        Store(right, shared=False)  # it may come in, and make no tables
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "place",
    ["127.0.0.1:1/records", "/records?host=/nowhere", "nowhere.invalid/records?password=canary"],
)
def test_a_server_out_of_reach_is_one_clear_error(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cannot read the database" in refused(
        f"postgresql://me:canary@{place}", tmp_path, capsys
    )


def test_without_the_driver_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'lwspec\[postgresql\]'"):
        Store(address("postgresql://me:canary@host/records"), shared=False)


@pytest.mark.parametrize(
    ("typed", "what"),
    [
        ("mysql://me:canary@host/records", "another kind of server"),
        ("sqlite:///canary.db", "a file is named by its path"),
        ("postgresql+asyncpg://me:canary@host/records", "another kind of server"),
        ("postgresql://me:a@canary@host/records", "%40"),
        ("postgresql://me@host:canary/records", "unreadable as an address"),
        ("://canary", "unreadable as an address"),
    ],
)
def test_an_address_that_names_no_server_is_refused_and_not_repeated(
    typed: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=what):
        address(typed)
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["status", "--db", typed])
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and what.replace("%40", "%") in printed.replace("%40", "%")
    assert "canary" not in printed


@pytest.mark.parametrize(
    "secret", ["me:canary@host/r", "me:ca/nary@host/r", "host/r?password=canary"]
)
def test_a_database_is_named_without_its_password(secret: str) -> None:
    shown = named(address(f"postgresql://{secret}"))
    assert shown.startswith("postgresql+psycopg://") and "host/r" in shown
    assert "canary" not in shown and "ca/nary" not in shown
    assert is_secret("PGPASSWORD") and not is_secret("PGHOST")
