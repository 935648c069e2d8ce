"""The fingerprint of a fold: all that changes a fit, and nothing else."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from defectloc import checks, config
from defectloc.arguments import quote_paths
from defectloc.runs import fitting
from defectloc.runs.fitting import fingerprint as fingerprint_of
from defectloc.runs.preparing import prepare
from tests.conftest import SMALL
from tests.narrow import make_narrow


@pytest.fixture(scope="module")
def fingerprint(synthetic):
    """The fingerprint of a fit with some overrides; the images lie where `synthetic` put them."""
    config.register()

    def of(*arguments: str, root: Path = synthetic) -> str:
        overrides = [f"data.root={root}", "subset=pill", *SMALL, *arguments]
        with initialize_config_dir(str(config.directory()), version_base="1.3"):
            settings = checks.typed(compose("train", quote_paths(overrides)))
        with pytest.MonkeyPatch.context() as patch:
            make_narrow(patch)
            return fingerprint_of(prepare(settings))

    return of


@pytest.fixture(scope="module")
def plain(fingerprint) -> str:
    return fingerprint()


def test_fingerprint_leaves_out_what_does_not_change_the_fit(fingerprint, plain, mvtec):
    assert fingerprint("fold=3", "threads=2", "outputs=elsewhere", "features.batch_size=3") == plain
    assert fingerprint("localization.threshold=0.3", "decision.threshold=0.2", "features.workers=1") == plain
    assert fingerprint(root=mvtec) == plain


@pytest.mark.parametrize(
    "typed",
    [
        "seed=1",
        "n_folds=4",
        "data.image_size=64",
        "data.split_seed=1",
        "data.validation=0.2",
        "data.limit=50",
        "data.split=official data.n_defective=8",
        "model.preprocessing=oxford",
        "model.trainable_from=head",
        "model=densenet121",
        "training.epochs=3",
        "training.learning_rate=1e-3",
        "training.class_weights=balanced",
        "training.batch_size=5",
        "augmentation=flips",
        "features.dtype=float32",
        "features.cache=false",
    ],
)
def test_fingerprint_holds_what_changes_the_fit(fingerprint, plain, typed):
    assert fingerprint(*typed.split()) != plain


def test_fingerprint_tells_that_folds_of_groups_are_joined(fingerprint, monkeypatch):
    """One fold was set aside before, and only a share that is no whole fold has become another."""
    grouped, joined = ("data.group=path",), ("data.group=path", "data.validation=0.4")
    now = [fingerprint(*typed) for typed in (grouped, joined, joined[1:])]
    monkeypatch.setattr(fitting, "joins_folds", lambda *_: False)
    before = [fingerprint(*typed) for typed in (grouped, joined, joined[1:])]
    assert [one == other for one, other in zip(now, before, strict=True)] == [True, False, True]


def test_fingerprint_sees_one_byte_and_one_label(fingerprint, mvtec):
    plain = fingerprint(root=mvtec)
    image = mvtec / "pill" / "train" / "good" / "000.png"
    image.write_bytes(image.read_bytes() + b"\0")
    changed = fingerprint(root=mvtec)
    assert changed != plain
    image.rename(mvtec / "pill" / "test" / "crack" / "zzz.png")
    assert fingerprint(root=mvtec) not in (plain, changed)


def test_the_shorter_side_of_square_photographs_is_their_side(fingerprint, plain):
    (side,) = [each.partition("=")[2] for each in SMALL if each.startswith("data.image_size=")]
    assert fingerprint(f"data.image_size=[{side},{side}]") == plain
