"""The wheel alone, in an empty folder, far from the checkout."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, capture_output=True, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Run Python with the installed wheel in an empty folder."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--no-index", "--no-deps", "--target", site, wheel]
    subprocess.run(install, capture_output=True, check=True)

    def run(*arguments):
        # PYTHONPATH comes before the editable installation of the checkout.
        environment = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *arguments]
        folder = tmp_path_factory.mktemp("empty")
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert not list(folder.iterdir())
        return done

    run.site = site
    return run


def test_holds_the_package_and_its_configuration_and_nothing_else(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    conf = {f"defectloc/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert "defectloc/conf/train.yaml" in conf
    assert {name for name in names if name.endswith(".yaml")} == conf
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "defectloc/reporting/templates").iterdir()}
    assert "defectloc/reporting/templates/run.html" in templates
    assert templates <= set(names)
    assert {name for name in names if not name.startswith(("defectloc/", "hydra_plugins/hydra_defectloc/"))} == set()
    # Other packages put theirs into it.
    assert "hydra_plugins/__init__.py" not in names
    assert not [name for name in names if {"tests", "__pycache__"} & set(Path(name).parts)]


def test_brings_the_licence_and_the_command(wheel):
    content = zipfile.ZipFile(wheel)
    names = content.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    points = next(name for name in names if name.endswith("entry_points.txt"))
    assert "defectloc = defectloc.cli:main" in content.read(points).decode()


def test_finds_its_own_configuration(python):
    done = python("-c", "from defectloc import config; print(config.directory())")
    assert Path(done.stdout.strip()) == python.site / "defectloc" / "conf"


@pytest.mark.parametrize("module", [["defectloc", "train"], ["defectloc.train"]])
def test_shows_the_keys_and_the_options(python, module):
    done = python("-m", *module, "--help")
    assert done.returncode == 0, done.stderr
    assert "data=csv|elpv|folder|mvtec|synthetic" in done.stdout
    assert re.search(r"training.learning_rate +0.0001 +of Adam", done.stdout)
