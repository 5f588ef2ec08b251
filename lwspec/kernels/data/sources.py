"""The raw rows of a task's data: a hub set, local files, or a built-in toy task."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lwspec.engine.runfolder import sha256_of
from lwspec.errors import DataError, NetworkError
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.models.network import unreachable


def read_sources(attempt: Attempt) -> dict[str, list[dict[str, Any]]]:
    """The rows of each source split that the task uses. Raises DataError or NetworkError."""
    settings = attempt.job.settings
    data = settings["data"]
    wanted = {split["source"] for split in settings["splits"].values()}
    if "toy" in data:
        from lwspec.kernels.toy.text import rows

        return {name: rows(data["toy"], name) for name in sorted(wanted)}
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    scratch = attempt.path / "scratch"
    try:
        if "loader" in data:
            files = {name: attempt.job.places[name] for name in sorted(wanted)}
            for name, file in files.items():
                if sha256_of(Path(file)) != data["files"][name]:
                    raise DataError("the data have changed since they were planned", where=file)
            loaded = load_dataset(data["loader"], data_files=files, cache_dir=str(scratch))
        else:
            if Path(data["hub"]).exists():
                raise DataError(
                    f"{data['hub']} is a hub set, and a folder here would be read in its place",
                    where=str(Path(data["hub"]).resolve()),
                    remedy="move the folder, or name its files in the spec",
                )
            loaded = load_dataset(data["hub"], data["name"], revision=data["revision"])
        return {name: loaded[name].to_list() for name in sorted(wanted)}
    except (DatasetsError, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno == 28:
            raise
        first = str(error.__cause__ or error).strip().splitlines()[0]
        kind = NetworkError if unreachable(error) else DataError
        raise kind(
            f"cannot load the data: {first}",
            where=", ".join(attempt.job.places.values()),
            remedy="check path and split names; for a hub set, the network and `hf auth login`",
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
