"""A real JupyterLab, a real Voila and a real Chromium for the tests of this folder.

They are not part of a plain `pytest`: `make test-ui` runs them. See README.md here.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from find_browser import NO_BROWSER, find_browser
from notebook_page import NotebookPage

HERE = Path(__file__).parent
SHOTS = HERE / "shots"
NOTEBOOKS = HERE.parents[1] / "notebooks"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTINGS = {
    # No question about news, which would lie over the page, and no cell that is taken out of it when out of sight.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.ui)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    # What the browser showed when a test failed says more than the message.
    page = item.funcargs.get("page")
    if call.when == "call" and report.failed and page is not None:
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"failed-{item.name}.png")
    return report


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


def wait_until_it_answers(address: str, process: subprocess.Popen, log: Path, seconds: float = 90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended:\n{log.read_text()[-3000:]}"
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310 - our own, on the loopback
                return
        except urllib.error.HTTPError:
            return  # whatever it says, it answers
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    pytest.fail(f"{address} did not answer in {seconds:.0f} s:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def desk(tmp_path_factory) -> Path:
    """A folder with a copy of the notebooks, and the servers' own folders beside it."""
    folder = tmp_path_factory.mktemp("desk")
    ignore = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(NOTEBOOKS, folder / "notebooks", ignore=ignore)
    for name, values in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="session")
def environment(desk) -> dict[str, str]:
    """Nothing of the user's own settings is read or changed, and the kernel is that of this interpreter."""
    own = {
        f"JUPYTER_{kind}_DIR": str(desk / kind.lower()) for kind in ("RUNTIME", "CONFIG", "DATA")
    }
    own |= {
        "JUPYTERLAB_SETTINGS_DIR": str(desk / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(desk / "workspaces"),
        "IPYTHONDIR": str(desk / "ipython"),
        "XDG_CACHE_HOME": str(desk / "cache"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "TIMO_QUICK": "1",
    }
    return {k: v for k, v in os.environ.items() if k != "JUPYTER_PATH"} | own


@pytest.fixture(scope="session")
def serve(desk, environment) -> Iterator[Callable[..., str]]:
    """Start `python -m ...` as a server with `{port}` in its arguments; returns its address."""
    running = []

    def start(*arguments: str, answers: str = "") -> str:
        port = free_port()
        log = desk / f"server-{port}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *(a.format(port=port) for a in arguments)],
                cwd=desk / "notebooks",
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running.append(process)
        address = f"http://127.0.0.1:{port}"
        wait_until_it_answers(f"{address}/{answers}", process, log)
        return address

    yield start
    for process in running:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    """End a server and its kernels: asked first, so that it ends its kernels itself."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, kind)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            continue
        return


@pytest.fixture(scope="session")
def lab_address(serve) -> str:
    return serve(
        "jupyterlab",
        "--allow-root",
        "--no-browser",
        "--ip=127.0.0.1",
        "--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=",
        answers="api/status",
    )


@pytest.fixture(scope="session")
def voila_address(serve) -> str:
    return serve(
        "voila",
        "workbench.ipynb",
        "--no-browser",
        "--port={port}",
        "--Voila.ip=127.0.0.1",
        "--Voila.port_retries=0",
        "--VoilaConfiguration.allow_template_override=NO",
        answers="static/favicon.ico",
    )


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    path = find_browser()
    if path is None:
        pytest.skip(NO_BROWSER)
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A page of its own, with nothing kept from earlier ones; what it logs as an error is in `page.errors`."""
    context = browser.new_context(
        viewport={"width": 1360, "height": 1000}, accept_downloads=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    context.close()


@pytest.fixture
def shot(page) -> Callable[[str], Path]:
    """Write what the page shows to tests/ui/shots/<name>.png."""
    SHOTS.mkdir(exist_ok=True)

    def take(name: str) -> Path:
        path = SHOTS / f"{name}.png"
        page.screenshot(path=path)
        return path

    return take


@pytest.fixture
def lab(page, lab_address) -> Iterator[Callable[..., NotebookPage]]:
    """Open a notebook in JupyterLab, run all cells and wait for them; its kernel is ended with the test."""
    opened = []

    def run(notebook: str, theme: str = "JupyterLab Light", seconds: float = 120) -> NotebookPage:
        view = NotebookPage(page)
        view.open(f"{lab_address}/lab/workspaces/test/tree/{notebook}?reset", theme)
        opened.append(view)
        view.run_all(seconds)
        return view

    yield run
    for view in opened:
        view.shut_down()
