"""A checked spec with its text, so that every complaint can point at a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.spec.spec import Spec
from lwspec.engine.spec.toml import Loc, Source
from lwspec.errors import SpecError, nearest


@dataclass(frozen=True)
class LoadedSpec:
    """A checked spec with the text that it came from."""

    spec: Spec
    source: Source
    unequal: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Table to what differs between the arms that it compares, in words, where it says why."""
    arms: Mapping[str, ArmDeclaration] = field(default_factory=dict)
    """The declarations of its experiments' arms."""

    def fail(
        self,
        loc: Sequence[str | int],
        what: str,
        *,
        near: str | None = None,
        to_do: str | None = None,
    ) -> NoReturn:
        """Raise a SpecError that points at the key."""
        raise SpecError(what, where=self.source.where(loc), nearest=near, remedy=to_do)


def all_known(
    loaded: LoadedSpec, at: Loc, kind: str, names: Sequence[str], known: Iterable[str]
) -> None:
    """Every name in the list at `at` is known, or the first that is not is refused."""
    valid = list(known)
    for position, name in enumerate(names):
        if name not in valid:
            loaded.fail(
                (*at, position),
                f"there is no {kind} {name!r}",
                near=nearest(name, valid),
                to_do=f"choose among: {', '.join(sorted(valid))}",
            )


def no_twins(loaded: LoadedSpec, kind: str, names: Sequence[str]) -> None:
    """No two things of a kind have one name."""
    for index, name in enumerate(names):
        if name in names[:index]:
            loaded.fail((kind, index, "name"), f"a second {kind} is named {name!r}")
