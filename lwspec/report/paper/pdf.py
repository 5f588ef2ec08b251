"""From a paper's LaTeX to its PDF."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lwspec.engine.runs.checksum import sha256_of
from lwspec.engine.runs.jsonfile import read_json, remember_json
from lwspec.errors import ReportError, RunFolderError

TIMEOUT_S = 300
_ENGINES = {"pdflatex": "-pdf", "lualatex": "-lualatex", "xelatex": "-xelatex"}
_WHOLE_LINES = {"max_print_line": "10000", "error_line": "254", "half_error_line": "238"}
"""So that TeX breaks no line of what it prints, and cuts little of the one that it cannot read."""
_CONFINED = {"openin_any": "p", "openout_any": "p", "shell_escape": "f"}
"""So that TeX opens what is named below the paper's folder or comes with TeX, and runs nothing."""
_ERROR = re.compile(r"^(?:! +|(?P<file>\S[^:\n]*):(?P<line>\d+): )(?P<what>.+)$", re.MULTILINE)
_READ = re.compile(r"^l\.\d+ (?P<text>.*)$", re.MULTILINE)
_MAGIC = re.compile(r"^%\s*!TEX\s+(?:TS-)?program\s*=\s*(\w+)", re.IGNORECASE | re.MULTILINE)


def compile_pdf(tex: Path, newest: float, made_before: Path) -> Path | None:
    """Compile with latexmk, or return None where there is none.

    The engine is pdflatex, or what a line `% !TEX program = lualatex` names. The PDF's dates are
    those of the newest record (seconds since 1970), so that the same records give the same bytes;
    what was made from the same files is left as it is, by the hashes in the file `made_before`.
    Raises ReportError with LaTeX's first complaint.
    """
    if shutil.which("latexmk") is None:
        return None
    date = os.environ.get("SOURCE_DATE_EPOCH", str(int(newest)))
    pdf, engine = tex.with_suffix(".pdf"), _engine(tex)
    remembered = _remembered(made_before)
    made = remembered.get(str(pdf.resolve()))
    if made is None or made != _state([engine, date], pdf, made["files"]):
        read = _latexmk(tex, pdf, engine, date)
        made = _state([engine, date], pdf, read)
        remember_json(made_before, {**remembered, str(pdf.resolve()): made})
    return pdf


def _remembered(path: Path) -> dict[str, Any]:
    try:
        return read_json(path) if path.exists() else {}
    except RunFolderError:
        return {}  # it is no record: the PDF is made again


def _state(way: list[str], pdf: Path, files: Iterable[str]) -> dict[str, Any]:
    """How a PDF was made, its hash, and those of the files beside it that LaTeX read."""
    return {
        "way": way,
        "pdf": _hash(pdf),
        "files": {name: _hash(pdf.parent / name) for name in sorted(files)},
    }


def _hash(path: Path) -> str | None:
    return sha256_of(path) if path.exists() else None


def _latexmk(tex: Path, pdf: Path, engine: str, date: str) -> set[str]:
    """Compile, and return the files below the paper's folder that were read."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            "latexmk",
            "-norc",  # which would be Perl, read from the paper's folder
            engine,
            "-interaction=nonstopmode",
            "-halt-on-error",
            "-file-line-error",
        ]
        command += ["-usepretex", r"-pretex=\ifdefined\pdftrailerid\pdftrailerid{}\fi"]
        command += ["-no-shell-escape", "-recorder", f"-outdir={scratch}", tex.name]
        try:
            done = subprocess.run(
                command,
                cwd=tex.parent,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "SOURCE_DATE_EPOCH": date,
                    "FORCE_SOURCE_DATE": "1",
                    **_WHOLE_LINES,
                    **_CONFINED,
                },
            )
        except subprocess.TimeoutExpired:
            raise ReportError(f"LaTeX did not end within {TIMEOUT_S} s", where=str(tex)) from None
        made, log = Path(scratch) / pdf.name, tex.with_suffix(".log")
        log.unlink(missing_ok=True)
        if done.returncode or not made.exists():
            log.write_text(done.stdout, encoding="utf-8")
            raise _complaint(done.stdout, tex, log)
        shutil.copy(made, pdf)
        return _read(made.with_suffix(".fls"), tex.parent)


def _read(fls: Path, folder: Path) -> set[str]:
    """The files below a folder that LaTeX's own record says it read, and a bibliography's."""
    home = folder.resolve()
    lines = fls.read_text(encoding="utf-8", errors="replace").splitlines()
    named = [home / line.removeprefix("INPUT ") for line in lines if line.startswith("INPUT ")]
    inside = [path.resolve() for path in [*named, *home.glob("*.bib"), *home.glob("*.bst")]]
    return {str(path.relative_to(home)) for path in inside if path.is_relative_to(home)}


def _engine(tex: Path) -> str:
    named = _MAGIC.search(tex.read_text(encoding="utf-8"))
    if named is None:
        return _ENGINES["pdflatex"]
    if named[1].lower() not in _ENGINES:
        raise ReportError(
            f"the template asks for {named[1]}", where=str(tex), remedy=f"one of {list(_ENGINES)}"
        )
    return _ENGINES[named[1].lower()]


def _complaint(printed: str, tex: Path, log: Path) -> ReportError:
    """LaTeX's first error: in which file and line, and what it had read of that line."""
    errors = list(_ERROR.finditer(printed))
    what, where, remedy = "see the log", str(log), f"mend the template; LaTeX's log is {log}"
    if errors:
        what = " ".join(errors[0]["what"].split()).rstrip(" .")
    if errors and errors[0]["file"] and (read := _READ.search(printed, errors[0].end())):
        what += f" after `{read['text'].strip()[-60:]}`"
    if placed := next((error for error in errors if error["file"]), None):
        where = f"{os.path.normpath(tex.parent / placed['file'])}:{placed['line']}"
    if "Unicode character" in what:
        remedy = "put `% !TEX program = lualatex` and a font that has it into the template"
    return ReportError(f"LaTeX failed: {what}", where=where, remedy=remedy)
