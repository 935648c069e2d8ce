"""What several test modules share: a small synthetic data set, commands run in this process, a few finished fits."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from defectloc.data.synthetic import generation as synthetic_images
from defectloc.data.synthetic.generation import generate
from defectloc.runs.directory import Run
from tests.narrow import make_narrow
from tests.spots import write_photographs

# A fit of seconds.
FIT = [
    "data.n_good=30",
    "data.n_test_good=5",
    "data.n_per_type=6",
    "data.synthetic_size=64",
    "data.image_size=32",
    "model.weights=none",
    "training.epochs=2",
    "training.target_train_accuracy=1.1",
    "patch_head.steps=12",
    "threads=1",
    "device=cpu",
    "figures=false",
]
CAM = ["localization=cam", "localization.normalization=minmax", "localization.threshold=0.8"]
SMALL = [*FIT, *CAM]
FUSION = ["data=synthetic", "subset=pill", *FIT, "training.epochs=1", "localization.threshold=0.05"]
MEMORY = ["data=synthetic", "subset=pill", *FIT, "training.epochs=1", "localization=memory"]
REST = [each for each in FIT if not each.startswith(("data.n_", "data.synthetic", "data.image", "training", "patch"))]
TILED = ["data=folder", "subset=spots", *REST, "training=none", "data.image_size=64"]
WITHOUT_DEFECTS = [*MEMORY, "data.split=official", "data.n_defective=0"]
# Workers run beside one another: more threads each would only get in each other's way. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# shap would compile for six seconds what the few evaluations of a test run in a hundredth of one. Read by Numba.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

SYNTHETIC = ["data=synthetic", "subset=pill", *SMALL]


@dataclass
class Outcome:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The error, once it is sure that it is one sentence and no traceback."""
        assert self.code == 2, self.err
        assert "Traceback" not in self.err
        assert "Error executing job" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert self.err.rstrip().endswith(lines[0])
        return lines[0].removeprefix("error: ")


def _start(patch: pytest.MonkeyPatch, name: str, *arguments: str) -> int:
    """Run `defectloc COMMAND ARGUMENTS` in this process; gives its exit code."""
    patch.setattr(sys, "argv", ["defectloc", *arguments])
    patch.setenv("HYDRA_FULL_ERROR", "0")
    # Hydra composes all twice, first only for `hydra.mode`, which nothing sets and that is None then too.
    patch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *_, **__: None)
    try:
        import_module(f"defectloc.{name}").main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


@pytest.fixture
def narrow(monkeypatch) -> None:
    """Give VGG16 an eighth of its channels, with which the fits that tests share are made; a process of its own
    needs `tests.narrow.COMMAND` for it.
    """
    make_narrow(monkeypatch)


@pytest.fixture(scope="module")
def narrow_for_module() -> Iterator[None]:
    """The same for what the tests of a module share."""
    with pytest.MonkeyPatch.context() as patch:
        make_narrow(patch)
        yield


@pytest.fixture
def command(narrow, monkeypatch, capsys) -> Callable[..., Outcome]:
    """Run `defectloc COMMAND ARGUMENTS` in this process, with a narrow VGG16."""

    def run(name: str, *arguments: str) -> Outcome:
        capsys.readouterr()
        code = _start(monkeypatch, name, *arguments)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Give each test a working directory of its own; `outputs` lies there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MVTEC_ROOT", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _generated_once(tmp_path_factory):
    """Copy the images of a synthetic set that another test has generated already: most tests begin with one."""
    kept, original = tmp_path_factory.mktemp("generated"), synthetic_images._generate_all

    def generate_or_copy(folder: Path, subset: str, **numbers: int) -> None:
        before = kept / "-".join([subset, *(str(numbers[name]) for name in sorted(numbers))])
        if not before.is_dir():
            original(before, subset, **numbers)
        shutil.copytree(before, folder, dirs_exist_ok=True)

    synthetic_images._generate_all = generate_or_copy
    yield
    synthetic_images._generate_all = original


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory) -> Path:
    """59 synthetic pills of 64 px in the MVTec layout; not to be changed."""
    return generate(tmp_path_factory.mktemp("synthetic"), "pill", n_good=30, n_test_good=5, n_per_type=6, size=64)


@pytest.fixture
def mvtec(synthetic, tmp_path) -> Path:
    """A copy of the synthetic set that a test may spoil."""
    return Path(shutil.copytree(synthetic, tmp_path / "mvtec"))


def train(folder: Path, *arguments: str) -> Path:
    """Run `defectloc train` in a folder, with a narrow VGG16; gives its outputs folder."""
    with pytest.MonkeyPatch.context() as patch:
        make_narrow(patch)
        patch.chdir(folder)
        assert _start(patch, "train", *arguments) == 0
    return folder / "outputs"


def trained_once(tmp_path_factory, name: str, *arguments: str) -> Path:
    """Give the outputs of a fit that all worker processes share; the first that asks makes it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            train(folder, *arguments)
            (folder / "whole").touch()
    return folder / "outputs"


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The outputs of two finished folds with class activation maps; not to be changed."""
    return trained_once(tmp_path_factory, "finished", "-m", *SYNTHETIC, "fold=0,1")


def _copied(outputs: Path, folder: Path) -> Path:
    """Copy outputs below the working directory `folder`; gives the run of fold 0 there."""
    shutil.copytree(outputs, folder / "outputs")
    return next(Path("outputs").glob("pill/fold0-*"))


@pytest.fixture(scope="session")
def fitted(tmp_path_factory) -> Path:
    """The outputs of a finished fold with all three maps; not to be changed."""
    return trained_once(tmp_path_factory, "fitted", *FUSION)


@pytest.fixture
def fused(fitted, narrow, tmp_path) -> Path:
    """A copy of a run with all three maps, in `outputs` of the working directory."""
    return _copied(fitted, tmp_path)


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory) -> Path:
    """The outputs of a run without any defective training image; not to be changed."""
    return trained_once(tmp_path_factory, "unlabelled", *WITHOUT_DEFECTS)


@pytest.fixture
def alone(unlabelled, narrow, tmp_path) -> Path:
    """A copy of a run without any defective training image, in `outputs` of the working directory."""
    return _copied(unlabelled, tmp_path)


@pytest.fixture(scope="session")
def spots(tmp_path_factory) -> tuple[Path, Path, list[str]]:
    """Outputs of a run in tiles, its photographs of two sizes, and the settings for them; not to be changed."""
    root = tmp_path_factory.mktemp("spots")
    data = write_photographs(root)
    return (
        trained_once(tmp_path_factory, "spots-run", *TILED, *data, "data.tiles=64", "patch_head.steps=60"),
        root,
        data,
    )


@pytest.fixture
def tiled(spots, narrow) -> Run:
    """The run in tiles, as it is."""
    return Run.open(next(spots[0].glob("spots/fold0-*")))


def last_localization(folder: Path) -> Path:
    """The folder of what `train` was last asked for."""
    return folder / "localization" / json.loads((folder / "metrics.json").read_text())["localization"]


def write_image(path: Path, value: int = 128, size: int = 40, seed: int | None = None) -> Path:
    """Write a small image: of one grey, or of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size, size, 3), value, np.uint8)
    if seed is not None:
        pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def turned_tiff(path: Path, upright: np.ndarray, orientation: int, mode: str = "L") -> Path:
    """Write an uncompressed TIFF of a mode of Pillow that is `upright` once turned as its EXIF orientation says."""
    stored = [
        lambda a: a,
        np.fliplr,
        lambda a: np.rot90(a, 2),
        np.flipud,
        lambda a: a.swapaxes(0, 1),
        lambda a: np.rot90(a, 1),
        lambda a: np.rot90(a, 2).swapaxes(0, 1),
        lambda a: np.rot90(a, -1),
    ][orientation - 1](upright)
    exif = Image.Exif()
    exif[274] = orientation
    # Only this mode is not told by the type of an array.
    Image.fromarray(np.ascontiguousarray(stored), mode if mode == "CMYK" else None).save(path, exif=exif)
    with Image.open(path) as written:
        assert (written.mode, written.info["compression"]) == (mode, "raw")
    return path


def two_folders(root: Path, n: int = 10) -> Path:
    """Make `root/good` and `root/defective` with n different images each."""
    for label, name in enumerate(("good", "defective")):
        for i in range(n):
            write_image(root / name / f"{i:02d}.png", seed=1000 * label + i)
    return root


def files_below(folder: Path) -> list[str]:
    """List all files below a folder that may not exist."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# Of everything that an explanation repeats.
FEW = [
    "threads=1",
    "device=cpu",
    "attribution.steps=2",
    "attribution.smooth_samples=2",
    "attribution.expected_samples=2",
    "attribution.background=1",
    "attribution.window=0.5",
    "attribution.lime_samples=6",
    "attribution.n_superpixels=6",
    "attribution.shap_evaluations=6",
    "attribution.rise_masks=6",
    "attribution.score_channels=3",
]


@pytest.fixture
def run(finished, narrow, tmp_path) -> Run:
    """A copy of a finished fold, below which the command may write."""
    return Run.open(shutil.copytree(next(finished.glob("pill/fold0-*")), tmp_path / "run"))


@pytest.fixture
def explain(command, run):
    def start(*arguments, code=0):
        outcome = command("explain", f"run={run.folder}", *FEW, *arguments)
        assert outcome.code == code, outcome.err
        return outcome

    return start
