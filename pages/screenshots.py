"""Pictures of a real run for the documentation: `make screenshots`.

A toy pair is trained in a scratch folder. Its plan and its watch screen are drawn by rich as SVG,
and its page by Chromium.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path

from rich.console import Console, Group
from rich.text import Text

from lwspec.cli.session import open_session
from lwspec.cli.watching.pace import Paces
from lwspec.cli.watching.screen import screen
from lwspec.cli.watching.view import look

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
LWSPEC = [sys.executable, "-m", "lwspec"]
SPEC, DB, RUNS = Path("spec.toml"), Path("results.db"), Path("runs")
TITLES = {"plan": "lwspec plan spec.toml", "watch": "lwspec status --watch"}
WIDTHS = {"plan": 124, "watch": 88}
SHOWN_FROM = 8
"""How many jobs are done when the watch screen is drawn."""
FONT = re.compile(r"@font-face \{.*?\}", re.S)
"""What would be loaded from a server."""
CHROMIUM = "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --window-size=1000,1000"


def draw_terminal(name: str, shown: Text | Group) -> None:
    """Write what a terminal shows as SVG."""
    console = Console(record=True, width=WIDTHS[name], file=io.StringIO())
    console.print(shown)
    drawn = FONT.sub("", console.export_svg(title=TITLES[name], unique_id=name))
    (IMAGES / f"{name}.svg").write_text(drawn, encoding="utf-8")


def watched() -> Group:
    """The screen of `status --watch` once enough is done, while the rest runs."""
    paces = Paces()
    while True:
        session = open_session(SPEC, DB, RUNS, quiet=True)
        view = look(session, paces, starting=True, trouble=[])
        lines = screen(view, WIDTHS["watch"], 40, ascii_only=False)
        running = [state for state in view.states.values() if state.name == "RUNNING"]
        done = [state for state in view.states.values() if state.name == "DONE"]
        if len(done) >= SHOWN_FROM and running:
            return Group(*lines)
        time.sleep(1)


def main() -> None:
    """Run the toy plan, and draw it before, in between and at its end."""
    colours = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTHS["plan"]), "TERM": "xterm"}
    colours["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        subprocess.run([*LWSPEC, "init"], check=True, env=colours)
        plan = subprocess.run(
            [*LWSPEC, "plan", "spec.toml"], check=True, env=colours, capture_output=True, text=True
        )
        draw_terminal("plan", Text.from_ansi(plan.stdout))
        submit = subprocess.Popen([*LWSPEC, "submit"], env=colours, stdout=subprocess.DEVNULL)
        draw_terminal("watch", watched())
        if submit.wait() != 0:
            raise SystemExit("the plan did not end well")
        subprocess.run([*LWSPEC, "report", "--html", "page.html"], check=True, env=colours)
        chromium = shutil.which("chromium")
        if chromium is None:
            raise SystemExit("Chromium is not installed: apt-get install chromium")
        picture = f"--screenshot={IMAGES / 'page.png'}"
        page = (Path(folder) / "page.html").as_uri()
        subprocess.run([chromium, *CHROMIUM.split(), picture, page], check=True)


if __name__ == "__main__":
    main()
