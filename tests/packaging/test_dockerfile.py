"""To build the image takes minutes (tests/cluster), so what can go wrong is looked for in its Dockerfile first."""

import fnmatch
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def instructions(name: str) -> list[str]:
    lines = DOCKERFILE.replace("\\\n", "").splitlines()
    return [line.removeprefix(name).strip() for line in lines if line.startswith(f"{name} ")]


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_its_list_of_requirements_is_that_of_the_project(tmp_path):
    command = next(line for line in instructions("RUN") if line.startswith("python3 -c"))
    (tmp_path / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    # The system may have no command of that name.
    command = command.replace("python3", shlex.quote(sys.executable), 1)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["offline"]
    assert (tmp_path / "requirements.txt").read_text(encoding="utf-8").splitlines() == wanted


def test_what_it_copies_exists_and_is_not_ignored():
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    copied = [shlex.split(line)[:-1] for line in instructions("COPY") if not line.startswith("--from")]
    for source in {name for sources in copied for name in sources}:
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source, pattern) for pattern in kept)


def test_the_code_comes_after_the_dependencies():
    assert DOCKERFILE.index("pip install --no-cache-dir --requirement") < DOCKERFILE.index("COPY defectloc")
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert last.index("COPY --from=requirements") < last.index("COPY --from=package")


def test_its_last_stage_runs_nothing_that_could_leave_a_cache():
    assert "\nRUN " not in DOCKERFILE.rpartition("FROM ")[2]


def test_it_runs_the_command_as_a_user_that_is_not_root():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", instructions("USER")[-1])
    assert instructions("ENTRYPOINT") == ['["defectloc"]']
