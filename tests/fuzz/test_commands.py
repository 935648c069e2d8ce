"""More than a thousand bad inputs to the commands: each a success or one sentence, nothing half-written or wrong."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from defectloc import checks, config
from tests.conftest import Outcome

from .bad_inputs import Case, plan, spoiled
from .bad_values import bad_values
from .commands import (
    CLASS_MAP,
    CLASS_MAP_ALONE,
    FAST,
    FEW_EXPLAINED,
    FUSION,
    TABLE,
    Commands,
    fault_of,
    fresh,
    half_written,
    names,
    write_world,
)

pytestmark = pytest.mark.slow
SIZE = 50
OUTPUTS = Path("outputs")
CHANGING = ("seconds", "checksum")
EVALUATE = ["localization.threshold=0.5", "output=scores.json"]
FOREIGN = ["maps=maps", "masks=set/masks", *EVALUATE]
FOREIGN_BOXES = ["maps=maps", "masks=boxes/annotations.json", *EVALUATE]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[Path]:
    """A data set of 16 images, maps of it and a finished fit; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        yield write_world(tmp_path_factory.mktemp("world"), Commands(patch))


@pytest.fixture
def commands(monkeypatch, tmp_path) -> Commands:
    # Deep enough that `outputs=../../..` stays within the folder of the test.
    deep = tmp_path / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    return Commands(monkeypatch)


def run_folder() -> str:
    return str(next(OUTPUTS.glob("part/fold0-*")))


def lasting() -> set[str]:
    """List the files of outputs, besides what a later fit takes up and what `summarize` writes over."""
    return {
        path.as_posix()
        for path in OUTPUTS.rglob("*")
        if path.is_file() and path.parts[1] not in (".features", ".digests") and path.suffix not in (".lock", ".json")
    }


def result_of(name: str, outcome: Outcome) -> Any:
    """Give what the last command has written, as far as it does not depend on the clock."""
    if name == "train":
        (path,) = OUTPUTS.glob("part/fold0-*/metrics.json")
        return without_seconds(path)
    if name == "localize":
        return without_seconds(Path(outcome.out.splitlines()[-1]) / "metrics.json")
    if name == "predict":
        return [(Path("new") / table).read_text() for table in ("predictions.csv", "boxes.csv")]
    if name == "summarize":
        return (OUTPUTS / "summary.csv").read_text()
    if name == "evaluate":
        return json.loads(Path("scores.json").read_text())
    return None


def without_seconds(path: Path) -> dict[str, Any]:
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in CHANGING}


def judge(outcome: Outcome, case: object) -> list[str]:
    faults = [fault_of(outcome), half_written(OUTPUTS)]
    return [f"{case}\n   {fault}" for fault in faults if fault]


IMAGE_COMMANDS = ("train", "train", "stream", "overview", "predict", "explain")
MASK_COMMANDS = ("train", "localize", "evaluate", "evaluate", "overview")


def on_images(which: str, path: str) -> tuple[str, list[str]]:
    run = run_folder()
    return {
        "train": ("train", CLASS_MAP),
        "stream": ("train", [*CLASS_MAP, "features.cache=false", "fold=1"]),
        "overview": ("overview", [*TABLE, "subset=part"]),
        "predict": ("predict", [f"run={run}", "images=set", "output=new", *FAST]),
        "explain": ("explain", [f"run={run}", *FEW_EXPLAINED, f"images=set/{path}"]),
        "localize": ("localize", [f"run={run}", "localization.threshold=2"]),
        "evaluate": ("evaluate", FOREIGN),
    }[which]


@pytest.mark.parametrize("chunk", range(4))
def test_image_and_mask_files(world, commands, chunk):
    fresh(world, "set", "outputs", "maps")
    faults: list[str] = []
    undisturbed: dict[str, Any] = {}
    held_out = set(shown_masks())
    for number, case in enumerate(plan(Path("set"), chunk, SIZE, "[gsm]*/*")):
        choice = MASK_COMMANDS if case.kind == "mask" else IMAGE_COMMANDS
        name, arguments = on_images(which := choice[number % len(choice)], case.path)
        what = f"{name}: {case}"
        if which not in undisturbed:
            outcome = commands.run(name, *arguments)
            assert outcome.code == 0, outcome.err
            undisturbed[which] = result_of(name, outcome) if which != "stream" else None
        before = lasting()
        folders = set(OUTPUTS.glob("part/fold*"))
        with spoiled(Path("set"), case) as path:
            outcome = commands.run(name, *arguments)
            faults += judge(outcome, what)
            # A finished fit reads the masks of its held-out images only; a picture of another format is a picture.
            read = case.kind == "image" or name not in ("localize", "train") or case.path in held_out
            read = read and not path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
            if case.unreadable and read and not names(outcome, case):
                faults.append(f"{what}\n   not named: {outcome.out[-500:]} {outcome.err[-300:]}")
            if case.unreadable and read and outcome.code == 0 and name != "overview":
                faults.append(f"{what}\n   accepted")
            # A streamed fit has ended before it reads the test images.
            if outcome.code == 2 and which not in ("predict", "stream") and lasting() != before:
                faults.append(f"{what}\n   left {lasting() - before}")
        for folder in set(OUTPUTS.glob("part/fold*")) - folders:
            shutil.rmtree(folder)
        if number % 5 == 0:
            outcome = commands.run(name, *arguments)
            if outcome.code != 0:
                faults.append(f"{what}\n   not mended: {outcome.err[-500:]}")
            elif undisturbed[which] is not None and result_of(name, outcome) != undisturbed[which]:
                faults.append(f"{what}\n   another result after mending")
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


def shown_masks() -> list[str]:
    """List the masks of the finished fit's test and validation images."""
    table = pd.read_csv(Path(run_folder()) / "catalog.csv", keep_default_na=False)
    return list(table.loc[table["split"] != "train", "mask_path"])


@pytest.mark.parametrize("chunk", range(3))
def test_tables_boxes_and_maps(world, commands, chunk):
    fresh(world, "set", "outputs", "maps", "boxes")
    faults = []
    kinds = {
        "set": [("overview", [*TABLE, "subset=part"]), ("train", CLASS_MAP)],
        "boxes": [("evaluate", FOREIGN_BOXES)],
        "maps": [("evaluate", FOREIGN), ("evaluate", FOREIGN_BOXES)],
    }
    results: dict[tuple[str, ...], Any] = {}
    patterns = {"set": "catalog.csv", "boxes": "*", "maps": "*"}
    cases = [(part, case) for part in kinds for case in plan(Path(part), chunk, SIZE // 3, patterns[part])]
    for number, (part, case) in enumerate(cases):
        name, arguments = kinds[part][number % len(kinds[part])]
        what = f"{name}: {case}"
        if (name, *arguments) not in results:
            outcome = commands.run(name, *arguments)
            assert outcome.code == 0, outcome.err
            results[name, *arguments] = result_of(name, outcome)
        before, folders = lasting(), set(OUTPUTS.glob("part/fold*"))
        with spoiled(Path(part), case):
            outcome = commands.run(name, *arguments)
        faults += judge(outcome, what)
        if case.unreadable and (outcome.code != 2 or not names(outcome, case)):
            faults.append(f"{what}\n   accepted or not named: {outcome.err[-500:]}")
        if outcome.code == 2 and lasting() != before:
            faults.append(f"{what}\n   left {lasting() - before}")
        for folder in set(OUTPUTS.glob("part/fold*")) - folders:
            shutil.rmtree(folder)
        if number % 3 == 0:
            outcome = commands.run(name, *arguments)
            if outcome.code != 0 or result_of(name, outcome) != results[name, *arguments]:
                faults.append(f"{what}\n   not mended: {outcome.err[-500:]}")
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


RUN_COMMANDS = ("train", "localize", "same", "predict", "summarize", "explain")
# What nobody writes by hand but a disk, a network or a power cut does.
ACCIDENTS = ("empty", "truncated", "flipped", "zeros", "noise", "replaced")


def on_runs(which: str) -> tuple[str, list[str]]:
    run = run_folder()
    return {
        "train": ("train", FUSION),
        "localize": ("localize", [f"run={run}", "localization.threshold=2"]),
        "same": ("localize", [f"run={run}", "localization.threshold=0.05"]),
        "predict": ("predict", [f"run={run}", "images=set/good", "output=new", "overlays=false", *FAST]),
        "summarize": ("summarize", []),
        "explain": ("explain", [f"run={run}", *FEW_EXPLAINED]),
    }[which]


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory) -> dict[str, Any]:
    """What each command gives for the finished fit."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        for which in RUN_COMMANDS:
            fresh(world, "set", "outputs")
            name, arguments = on_runs(which)
            outcome = Commands(patch).run(name, *arguments)
            assert outcome.code == 0, outcome.err
            found[which] = result_of(name, outcome)
    return found


@pytest.mark.parametrize("chunk", range(5))
def test_files_of_a_run(world, commands, undisturbed, chunk):
    fresh(world, "set")
    faults = []
    cases = plan(world / "outputs", chunk, SIZE - 10, "part/**/*")
    cases += plan(world / "outputs", chunk, 8, ".features/**/*")
    cases += [Case(".digests/digests.json", "other", ACCIDENTS[(chunk + i) % 6], (chunk, i)) for i in range(2)]
    for number, case in enumerate(cases):
        fresh(world, "outputs")
        which = RUN_COMMANDS[number % len(RUN_COMMANDS)]
        name, arguments = on_runs(which)
        what = f"{which}: {case}"
        content = (OUTPUTS / case.path).read_bytes()
        bad = case.apply(content)
        (OUTPUTS / case.path).write_bytes(bad)
        outcome = commands.run(name, *arguments)
        faults += judge(outcome, what)
        accident = case.corruption in ACCIDENTS and bad != content
        if outcome.code == 0 and accident and not names(outcome, case) and not same(name, outcome, undisturbed[which]):
            faults.append(f"{what}\n   another result")
        if name == "train" and accident:
            if outcome.code != 0:
                faults.append(f"{what}\n   not made again: {outcome.err[-300:]}")
            else:
                again, more = on_runs("predict")
                outcome = commands.run(again, *more)
                if outcome.code != 0 or not same("predict", outcome, undisturbed["predict"]):
                    faults.append(f"{what}\n   not made again, as predict finds: {outcome.err[-300:]}")
        elif number % 3 == 0:
            (OUTPUTS / case.path).write_bytes(content)
            outcome = commands.run(name, *arguments)
            if outcome.code != 0 or not same(name, outcome, undisturbed[which]):
                faults.append(f"{what}\n   not mended: {outcome.err[-500:]}")
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


def same(name: str, outcome: Outcome, wanted: Any) -> bool:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return bool(result_of(name, outcome) == wanted)
    return False


class _ValidError(Exception):
    """The configuration is valid, and carrying it out would take too long."""


# Keys of which a large number is right and asks for hours.
COSTLY = ("epochs", "n_good", "n_per_type", "synthetic_size", "attribution.", "comparison.", "benchmark.", "workers")
BASES = {
    "train": CLASS_MAP,
    "tune": CLASS_MAP_ALONE,
    "localize": ["run=RUN", "localization.threshold=2"],
    "evaluate": FOREIGN,
    "predict": ["run=RUN", "images=set/good", "output=new", *FAST],
    "summarize": [],
    "report": ["run=RUN"],
    "export": ["run=RUN", "compare=1"],
    "overview": [*TABLE, "subset=part"],
    "cache": [],
    "explain": ["run=RUN", *FEW_EXPLAINED],
    "benchmark": CLASS_MAP_ALONE,
    "fetch": ["data=mvtec", "subset=pill"],
}
# Chunks of bad values for each command, by the number of its keys.
CONFIGURED = [(name, chunk) for name, n in (("train", 3), ("explain", 2), ("localize", 1)) for chunk in range(n)]
CONFIGURED += [(name, 0) for name in BASES if name not in ("train", "explain", "localize")]


@pytest.mark.parametrize(("name", "chunk"), CONFIGURED)
def test_configuration_keys(world, commands, monkeypatch, name, chunk):
    fresh(world, "set", "outputs", "maps")
    run = run_folder()
    base = [argument.replace("RUN", run) for argument in BASES[name]]
    faults = []
    cases = bad_values(config.SETTINGS[name], chunk, SIZE)
    typed = checks.typed

    def validated(composed: Any) -> Any:
        typed(composed)
        raise _ValidError

    for case in cases:
        key, _, value = case.partition("=")
        before, folders = lasting(), set(OUTPUTS.glob("part/fold*"))
        with monkeypatch.context() as patch:
            costly = any(part in key for part in COSTLY) and _is_large(value)
            # What is watched is watched until somebody stops it.
            if name in ("benchmark", "fetch", "tune") or key == "watch" or costly:
                patch.setattr(checks, "typed", validated)
            outcome = commands.through_hydra(name, *base, case)
        if "_ValidError" in outcome.err:
            continue
        faults += judge(outcome, f"{name} {case[:80]}")
        if outcome.code == 2 and lasting() != before:
            faults.append(f"{name} {case[:80]}\n   left {lasting() - before}")
        for folder in set(OUTPUTS.glob("part/fold*")) - folders:
            shutil.rmtree(folder)
        if not Path(run).is_dir():
            fresh(world, "outputs")
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


def _is_large(value: str) -> bool:
    try:
        return not -100 < float(value) < 100
    except ValueError:
        return value in ("nan", "inf", "-inf")
