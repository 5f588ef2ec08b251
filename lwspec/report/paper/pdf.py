"""From a paper's LaTeX to its PDF."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from lwspec.errors import ReportError

TIMEOUT_S = 300
_ENGINES = {"pdflatex": "-pdf", "lualatex": "-lualatex", "xelatex": "-xelatex"}
_MAGIC = re.compile(r"^%\s*!TEX\s+(?:TS-)?program\s*=\s*(\w+)", re.IGNORECASE | re.MULTILINE)


def compile_pdf(tex: Path, newest: float) -> Path | None:
    """Compile with latexmk, or return None where there is none.

    The engine is pdflatex, or what a line `% !TEX program = lualatex` names. The PDF's dates are
    those of the newest record (seconds since 1970), so that the same records give the same bytes.
    Raises ReportError with LaTeX's first complaint.
    """
    if shutil.which("latexmk") is None:
        return None
    date = os.environ.get("SOURCE_DATE_EPOCH", str(int(newest)))
    with tempfile.TemporaryDirectory() as scratch:
        command = ["latexmk", _engine(tex), "-interaction=nonstopmode", "-halt-on-error"]
        command += ["-usepretex", r"-pretex=\ifdefined\pdftrailerid\pdftrailerid{}\fi"]
        command += ["-no-shell-escape", f"-outdir={scratch}", tex.name]
        try:
            done = subprocess.run(
                command,
                cwd=tex.parent,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "SOURCE_DATE_EPOCH": date, "FORCE_SOURCE_DATE": "1"},
            )
        except subprocess.TimeoutExpired:
            raise ReportError(f"LaTeX did not end within {TIMEOUT_S} s", where=str(tex)) from None
        made = Path(scratch) / tex.with_suffix(".pdf").name
        log = tex.with_suffix(".log")
        log.unlink(missing_ok=True)
        if done.returncode or not made.exists():
            log.write_text(done.stdout, encoding="utf-8")
            raise _complaint(done.stdout, log)
        return Path(shutil.copy(made, tex.with_suffix(".pdf")))


def _engine(tex: Path) -> str:
    named = _MAGIC.search(tex.read_text(encoding="utf-8"))
    if named is None:
        return _ENGINES["pdflatex"]
    if named[1].lower() not in _ENGINES:
        raise ReportError(
            f"the template asks for {named[1]}", where=str(tex), remedy=f"one of {list(_ENGINES)}"
        )
    return _ENGINES[named[1].lower()]


def _complaint(printed: str, log: Path) -> ReportError:
    errors = [line for line in printed.splitlines() if line.startswith("!")]
    first = errors[0] if errors else "see the log"
    remedy = None
    if "Unicode character" in first:
        remedy = "put `% !TEX program = lualatex` and a font that has it into the template"
    return ReportError(f"LaTeX failed: {first}", where=str(log), remedy=remedy)
