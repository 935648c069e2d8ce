"""MLflow's page of a sweep of four runs in headless Chromium."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import SYNTHETIC

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
pytest.importorskip("mlflow", reason="mlflow is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]
SWEEP = ["-m", *SYNTHETIC, "fold=0,1", "localization.threshold=0.5,0.6", "figures=true", "logger=mlflow"]
# Of a server on a busy machine, in seconds and milliseconds.
START, PATIENCE = 180, 120_000


@pytest.fixture
def address(finished, tmp_path, command):
    """Log a sweep of two fits with two settings each, and serve it."""
    shutil.copytree(finished, tmp_path / "outputs")
    outcome = command("train", *SWEEP)
    assert outcome.code == 0, outcome.err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"sqlite:///{Path('outputs/.tracking/mlflow.db').absolute()}"
    arguments = ["server", "--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with Path("server.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "mlflow", *arguments], stdout=log, stderr=log)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START
    try:
        while not _answers(address):
            assert server.poll() is None, Path("server.log").read_text()
            assert time.monotonic() < deadline, Path("server.log").read_text()
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=10) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def test_page_of_a_sweep(address, tmp_path):
    from mlflow import MlflowClient

    experiment = MlflowClient(address).get_experiment_by_name("defectloc").experiment_id
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/#/experiments/{experiment}/runs")
        page.get_by_text("4 matching runs").wait_for()
        names = page.get_by_role("link", name="pill fold")
        # The rows come after their number.
        names.nth(3).wait_for()
        assert names.count() == 4
        assert len({names.nth(number).inner_text() for number in range(4)}) == 4
        page.screenshot(path=tmp_path / "runs.png")
        names.first.click()
        for text in ("balanced_accuracy", "validation_loss", "localization.threshold", "fingerprint"):
            page.get_by_text(text, exact=False).first.wait_for()
        page.screenshot(path=tmp_path / "run.png", full_page=True)
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("figures").first.wait_for()
        page.get_by_text("report.html").first.click()
        report = page.frame_locator("iframe").first
        report.get_by_text("missed", exact=False).first.wait_for()
        page.screenshot(path=tmp_path / "report.png")
        browser.close()
