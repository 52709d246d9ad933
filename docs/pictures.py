"""Make the pictures in docs/assets anew: python docs/pictures.py [RUN]; without RUN, of a small job with made-up replies.

Needs Chromium and Playwright. Each picture is made in the light and in the dark, and is at most 200 kB.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ASSETS = Path(__file__).parent / "assets"
SECONDNATURE = [sys.executable, "-m", "secondnature"]
SIZE = {"width": 1120, "height": 720}
MOST = 200_000  # bytes
WAIT = 120_000  # milliseconds at most for a page, on a busy machine
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SMALL = "model: fake\ntask: coin_flip\ntechnique: {name: cot}\nengine: {kind: fake}\n"


def small_job(folder: Path) -> Path:
    """A run of the fake engine, whose replies are made up: it shows what pages look like, not what a model can do."""
    (folder / "recipe.yaml").write_text(SMALL, encoding="utf-8")
    command = [*SECONDNATURE, "distill", "recipe.yaml", "--out", "runs/coins", "--limit", "60", "--quiet"]
    subprocess.run(command, check=True, cwd=folder)
    return folder / "runs" / "coins"


def shoot(browser: Any, name: str, address: str) -> None:
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport=SIZE, color_scheme=scheme, reduced_motion="reduce")
        page.set_default_timeout(WAIT)
        page.goto(address)
        page.wait_for_timeout(1500)  # the view brings itself up to date
        path = ASSETS / f"{name}-{scheme}.png"
        page.screenshot(path=path, animations="disabled")
        page.close()
        size = path.stat().st_size
        if size > MOST:
            raise SystemExit(f"{path} has {size:,} bytes, more than {MOST:,}: make SIZE smaller")
        print(f"{path} {size:,} bytes")


def main(run: Path) -> None:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise SystemExit("there is no Chromium here: apt-get install chromium")
    ASSETS.mkdir(exist_ok=True)
    root, name = run.resolve().parent.parent, "/".join(run.resolve().parts[-2:])  # no folder of this machine is shown
    subprocess.run([*SECONDNATURE, "report", name, "--quiet"], check=True, cwd=root)
    view = subprocess.Popen([*SECONDNATURE, "view", name, "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert view.stdout is not None
        address = view.stdout.readline().split()[0]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=program, args=["--no-sandbox", "--hide-scrollbars"], timeout=WAIT
            )
            shoot(browser, "report", (root / name / "report.html").as_uri())
            page = browser.new_page()
            page.set_default_timeout(WAIT)
            page.goto(address)  # leads on to the run's own page
            shoot(browser, "view", page.url + "test")
    finally:
        view.terminate()
        view.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(small_job(Path(folder)))
