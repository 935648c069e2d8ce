"""Commands in this process, a hundred times faster than from a shell, on a data set and a network of toy size."""

import contextlib
import copy
import io
import json
import os
import re
import shutil
import sys
import traceback
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from omegaconf import open_dict
from torchvision import models

from defectloc import cli
from defectloc.evaluation.max_box import MaxBoxAccV2
from defectloc.runs import scoring
from tests.conftest import CAM, Outcome

from .bad_inputs import Case
from .small_set import write_small_set

FAST = ["threads=1", "device=cpu"]
FIT = [
    *FAST,
    "subset=part",
    "n_folds=2",
    "data.image_size=32",
    "data.validation=0.4",
    "features.workers=0",
    "model.weights=none",
    "training.epochs=1",
    "training.target_train_accuracy=1.1",
    "memory.dims=8",
    "memory.budget_mb=0.1",
]
TABLE = ["data=csv", "data.table=set/catalog.csv"]
FUSION = [*TABLE, *FIT, "figures=false", "localization.threshold=0.05"]
# `tune` and `benchmark` draw no figures of a run.
CLASS_MAP_ALONE = [*TABLE, *FIT, *CAM]
CLASS_MAP = [*CLASS_MAP_ALONE, "figures=false"]
FEW_EXPLAINED = [*FAST, "method=gradcam", "n=1"]
# VGG16 with eight channels instead of 64 to 512.
NARROW = [8 if isinstance(width, int) else width for width in models.vgg.cfgs["D"]]


class Commands:
    """Runs commands as `defectloc COMMAND ARGUMENTS` does, but for Hydra, which composes equal arguments once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        monkeypatch.setitem(models.vgg.cfgs, "D", NARROW)
        # Of an image of 24 x 24 pixels the protocol's 224 x 224 show nothing more, and take a second.
        monkeypatch.setattr(scoring, "MAX_BOX_SIZE", 24)
        monkeypatch.setattr(MaxBoxAccV2, "taus", np.arange(10) / 10)
        save = Figure.savefig
        monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: save(figure, path, dpi=10))

    def run(self, name: str, *arguments: str) -> Outcome:
        """Run a command with arguments that are valid; what is composed of them is kept."""
        with self._monkeypatch.context() as patch:
            patch.setattr(cli.hydra, "main", _instead_of_hydra(arguments))
            return self.through_hydra(name, *arguments)

    def through_hydra(self, name: str, *arguments: str) -> Outcome:
        """Run a command with any arguments."""
        self._monkeypatch.setattr(sys, "argv", ["defectloc", *arguments])
        os.environ["HYDRA_FULL_ERROR"] = "0"
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            # As for a user; the tests turn warnings into errors.
            warnings.simplefilter("default")
            try:
                import_module(f"defectloc.{name}").main()
            except SystemExit as exit_:
                code = int(exit_.code or 0)
            except Exception:
                code = 1
                traceback.print_exc()
        return Outcome(code, out.getvalue(), err.getvalue())


_COMPOSED: dict[tuple[str, ...], tuple[Any, Any]] = {}


def _instead_of_hydra(arguments: tuple[str, ...]) -> Any:
    def main(version_base: str, config_path: str, config_name: str) -> Any:
        def decorated(job: Any) -> Any:
            def application() -> None:
                key = (config_name, *arguments)
                if key not in _COMPOSED:
                    with initialize_config_dir(version_base=version_base, config_dir=config_path):
                        whole = compose(config_name, sys.argv[1:], return_hydra_config=True)
                    job_alone = copy.deepcopy(whole)
                    with open_dict(job_alone):
                        del job_alone["hydra"]
                    _COMPOSED[key] = (whole, job_alone)
                whole, job_alone = _COMPOSED[key]
                HydraConfig.instance().set_config(whole)
                job(job_alone)

            return application

        return decorated

    return main


def fault_of(outcome: Outcome) -> str | None:
    """Say in which way an outcome is neither a success nor one sentence with exit code 2."""
    if "Traceback" in outcome.err + outcome.out or outcome.code not in (0, 2):
        return f"exit code {outcome.code}, {outcome.err[-900:]}"
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    if outcome.code == 2 and (len(errors) != 1 or not outcome.err.rstrip().endswith(errors[0])):
        return f"not one sentence: {outcome.err[-900:]}"
    if outcome.code == 0 and errors:
        return f"an error with exit code 0: {errors[0]}"
    return None


def names(outcome: Outcome, case: Case) -> bool:
    """Tell whether an outcome names the file of a case."""
    name = re.escape(Path(case.path).name)
    return re.search(rf"(?<![\w.]){name}", "".join((outcome.out + outcome.err).splitlines())) is not None


def half_written(folder: Path) -> str | None:
    """Name a temporary file, or a product whose last file is there and whose others are not."""
    for path in folder.rglob("*"):
        # A claim says for the life of a process which stored features it reads.
        hidden = path.name.startswith(".") and not path.name.startswith(".claim-")
        if path.is_file() and hidden and path.suffix != ".lock" and path.name != ".lock":
            return f"{path} was left"
    for path in folder.rglob("key.json"):
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            note = json.loads(path.read_bytes())
            missing = [name for name in note.get("files", ()) if not (path.parent / name).is_file()]
            if missing:
                return f"{path.parent} lacks {missing[0]}"
    for path in folder.glob("*/*/localization/*/metrics.json"):
        missing = [n for n in ("predictions.csv", "boxes.csv", "decision.json") if not (path.parent / n).is_file()]
        if missing:
            return f"{path.parent} lacks {missing[0]}"
    return None


def write_world(root: Path, commands: Commands) -> Path:
    """Make a data set `set`, maps of it with masks and boxes in COCO, and the outputs of a finished fit."""
    write_small_set(root / "set", n=8)
    for path in sorted((root / "set" / "masks").iterdir()):
        random = np.random.default_rng(int(path.stem))
        (root / "maps").mkdir(exist_ok=True)
        cells = random.integers(0, 5, (24, 24)).astype(np.float32)
        if int(path.stem) % 4 == 1:
            np.save(root / "maps" / f"{path.stem}.npy", cells)
        else:
            np.savez(root / "maps" / f"{path.stem}.npz", cells)
    coco = json.loads((root / "set" / "annotations.json").read_text())
    kept = {each["image_id"] for each in coco["annotations"]}
    coco["images"] = [image for image in coco["images"] if image["id"] in kept]
    (root / "boxes").mkdir()
    (root / "boxes" / "annotations.json").write_text(json.dumps(coco))
    here = Path.cwd()
    os.chdir(root)
    try:
        for arguments in (FUSION, CLASS_MAP, FUSION):
            outcome = commands.run("train", *arguments)
            assert outcome.code == 0, outcome.err
    finally:
        os.chdir(here)
    return root


def fresh(world: Path, *parts: str) -> None:
    """Put copies of parts of a world into the working directory."""
    for part in parts:
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(world / part, part)
