"""Make the pictures of the notebooks in JupyterLab: opened as they are kept, during a run, and after it.

python docs/make_notebook_pictures.py
python docs/make_notebook_pictures.py --all /tmp/pictures

Needs ``pip install ".[notebooks]" jupyterlab selenium``, and Chromium with its driver (on Debian:
``apt-get install chromium chromium-driver``). Without ``--all`` it makes those that the docs show; with it, the
whole of each notebook, to be looked at.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
PICTURES = HERE / "pictures"
LIMIT_SECONDS = 120
WIDTH, HEIGHT, TALL = 1150, 850, 12_000
LONG = "mtasklite_pqdm_square_demo.ipynb"

BAR_IS_MOVING = """
const texts = [...document.querySelectorAll('.jp-OutputArea .widget-html-content')].map(part => part.textContent);
const shares = texts.map(text => /(\\d+)%/.exec(text)).filter(Boolean).map(found => Number(found[1]));
return shares.some(share => share >= arguments[0] && share < 90);
"""
IS_DONE = """
const model = window.jupyterapp.shell.currentWidget.content.model;
return [...model.cells].every(cell => cell.type !== 'code' || cell.executionCount !== null);
"""
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
IS_IDLE = "return window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"


def wait_until(is_so: Any, what: str) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: It is not, after long.
    """
    end = time.monotonic() + LIMIT_SECONDS
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"not after {LIMIT_SECONDS} s: {what}")
        time.sleep(0.05)


def is_up(url: str) -> bool:
    """Return whether a server answers."""
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@contextlib.contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """Run JupyterLab in a folder, for this machine only; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", f"--ServerApp.root_dir={folder}"]
    options += ["--IdentityProvider.token=", "--expose-app-in-browser"]
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false", "checkForUpdates": false}', "utf-8")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env={**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: is_up(f"http://127.0.0.1:{port}/api"), "JupyterLab answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(LIMIT_SECONDS)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Run Chromium without a screen; yield its driver."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for option in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"]:
        options.add_argument(option)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()


class Lab:
    """A notebook that is open in JupyterLab.

    Args:
        browser: The driver of the browser.
        url: Where the server is.
        name: The notebook's file.
        height: Of the window; JupyterLab draws only the cells that are in it.
    """

    def __init__(self, browser: Any, url: str, name: str, height: int) -> None:
        self.browser = browser
        browser.set_window_size(WIDTH, height)
        browser.get(f"{url}/doc/tree/{name}")
        wait_until(lambda: self.ask("return !!window.jupyterapp?.shell?.currentWidget?.content?.model"), "it is open")
        wait_until(lambda: self.ask(IS_IDLE), "there is a kernel")
        time.sleep(2)  # saved widgets are drawn after that, and nothing tells when

    def ask(self, script: str) -> Any:
        """Return what a script in the page says."""
        return self.browser.execute_script(script)

    def run_all(self) -> None:
        """Clear the outputs, and begin to run all cells."""
        self.ask("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        time.sleep(1)
        self.ask(RUN_ALL)

    def wait_for_bar(self, least: int) -> None:
        """Wait until a bar is on its way, with at least so many percent behind it."""
        wait_until(lambda: self.browser.execute_script(BAR_IS_MOVING, least), "a bar is on its way")

    def wait_for_end(self) -> None:
        """Wait until all cells were run."""
        wait_until(lambda: self.ask(IS_DONE) and self.ask(IS_IDLE), "all cells were run")
        time.sleep(2)

    def show(self, text: str) -> None:
        """Scroll to the heading with a text."""
        script = """
            const content = window.jupyterapp.shell.currentWidget.content;
            const index = content.widgets.findIndex(cell => cell.model.sharedModel.source.includes(arguments[0]));
            content.activeCellIndex = index;
            content.scrollToItem(index, 'start').then(() => content.widgets[index].node.scrollIntoView());
        """
        self.browser.execute_script(script, text)

    def save(self, path: Path) -> None:
        """Keep a picture of the window."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.browser.save_screenshot(str(path))
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def make_for_docs(browser: Any, url: str) -> None:
    """Make the pictures that the docs show."""
    lab = Lab(browser, url, LONG, HEIGHT)
    lab.run_all()
    lab.show("## A bar")
    lab.wait_for_bar(least=30)
    lab.save(PICTURES / "notebook_running.png")
    lab.wait_for_end()
    lab.show("## Errors are counted on the bar")
    time.sleep(1)
    lab.save(PICTURES / "notebook_errors.png")


def make_all(browser: Any, url: str, folder: Path) -> None:
    """Make pictures of the whole of each notebook."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        lab = Lab(browser, url, path.name, TALL)
        lab.save(folder / f"{path.stem}_as_kept.png")
        lab.run_all()
        if "pqdm" in path.stem:
            lab.wait_for_bar(least=0)
            lab.save(folder / f"{path.stem}_during.png")
        lab.wait_for_end()
        lab.save(folder / f"{path.stem}_after.png")


def main() -> None:
    """Make the pictures that were asked for, from copies of the notebooks."""
    parser = argparse.ArgumentParser(description="Make pictures of the notebooks in JupyterLab.")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="all screens of all notebooks, into this folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as copies:
        for path in EXAMPLES.glob("*.ipynb"):
            shutil.copy(path, copies)
        with jupyter_lab(Path(copies)) as url, chromium() as browser:
            if args.all:
                make_all(browser, url, args.all)
            else:
                make_for_docs(browser, url)


if __name__ == "__main__":
    main()
