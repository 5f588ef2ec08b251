"""What `make audit` says of packages: weak, audited, or looked at by nobody."""

from __future__ import annotations

from typing import Any

from audit import read, verdict


def package(name: str, *weak: str) -> dict[str, Any]:
    found = [{"id": id, "fix_versions": ["2.0"]} for id in weak]
    return {"name": name, "version": "1.0", "vulns": found}


SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited"}


def test_a_weak_package_fails_also_where_another_could_not_be_audited() -> None:
    told = read({"dependencies": [package("a", "CVE-1"), SKIPPED]})
    status, said = verdict(2, [told, read({"dependencies": []})])
    assert status == 1
    assert said[0] == "VULNERABLE a 1.0: CVE-1, mended in 2.0"
    assert said[1].startswith("NOT AUDITED: 1 of 2 packages")


def test_what_nobody_could_look_at_is_never_called_audited() -> None:
    status, said = verdict(1, [read({"dependencies": [SKIPPED]})])
    assert status == 0
    assert len(said) == 1 and said[0].startswith("NOT AUDITED: 1 of 1 packages")


def test_two_services_together_may_know_all() -> None:
    one, other = (read({"dependencies": [package(name)]}) for name in "ab")
    assert verdict(2, [one, other]) == (0, ["audited: no weakness is known of 2 packages"])
