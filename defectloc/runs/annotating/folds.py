"""The folds of one setting below `outputs`, of which each image's boxes are taken from the one that tested it."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from defectloc.errors import DefectlocError
from defectloc.runs.directory import LOCALIZATION, METRICS, Run, folder_of, rows_of, whole_metrics
from defectloc.runs.maps import IGNORE_MASK, RunMaps
from defectloc.runs.products import Product
from defectloc.runs.records import runs_below
from defectloc.runs.tables import with_decisions

HOW = "'defectloc summarize' lists how they differ"


@dataclass(frozen=True)
class LocalizedFold:
    """A finished fold and the folder of one of its localizations."""

    run: Run
    folder: Path

    def test_images(self) -> pd.DataFrame:
        """Give the test images with `score, probability, predicted, verdict` and their sizes."""
        return with_decisions(rows_of(self.run.images(), "test"), self.folder)

    def maps(self, root: Path) -> RunMaps:
        """Open the maps that the boxes are of, without the pixels that count for no score."""
        config = _config(self.folder)
        kind, ignored = str(config["localization"]["map"]), self.folder / IGNORE_MASK
        product = Product(self.run.folder, kind, config["maps"][kind])
        mask = str(ignored.absolute()) if ignored.is_file() else None
        return RunMaps(self.run, kind, root, mask, product, config["localization"].get("upsampling"))


def folds_of(outputs: Path, subset: str, fingerprint: str | None, localization: str | None) -> list[LocalizedFold]:
    """Open the finished folds of one setting, in the order of their numbers.

    `fingerprint` names the fit, `localization` a localization of one of the folds; None where there is no choice: the
    only fit, and the localization that `train` was last asked for in all folds. Raises DefectlocError where there is
    a choice, and names it; where nothing fits; and for a fold that is not as it was written.
    """
    runs = _runs(outputs, subset, fingerprint)
    name = _asked_last(runs) if localization is None else localization
    folders = {run.folder: run.folder / LOCALIZATION / name for run in runs}
    # A name is made of all settings, and so the same in the folds of one setting.
    without = [run for run, folder in folders.items() if whole_metrics(folder) is None]
    if len(without) == len(runs):
        there = sorted({path.name for run in runs for path in _localizations(run)})
        raise DefectlocError(
            f"localization_name={name} is in none of the {len(runs)} folds; there are {', '.join(there)}."
        )
    if without:
        raise DefectlocError(
            f"run={without[0]} has no localization of the setting {name}; repeat its 'defectloc train' with that "
            "setting."
        )
    return [LocalizedFold(run, folders[run.folder]) for run in runs]


def _asked_last(runs: list[Run]) -> str:
    """Name the localization that `train` was last asked for in all folds."""
    last = {run.folder.name: _last(run).name for run in runs}
    if len(set(last.values())) > 1:
        each = ", ".join(f"{run}: {name}" for run, name in last.items())
        raise DefectlocError(
            f"'defectloc train' was last asked for different settings of the folds ({each}); choose one of them with "
            f"localization_name=NAME; {HOW}."
        )
    return next(iter(last.values()))


def _runs(outputs: Path, subset: str, fingerprint: str | None) -> list[Run]:
    by_print: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for folder in runs_below(folder_of(str(outputs), subset, 0, "").parent, "fold*-*"):
        if name := re.fullmatch(r"fold(\d+)-(.+)", folder.name):
            by_print[name[2]].append((int(name[1]), folder))
    if not by_print:
        raise DefectlocError(
            f"outputs={outputs} holds no finished fold of subset={subset}; start with 'defectloc train'."
        )
    listed = "; ".join(
        f"{each} (fold {', '.join(str(number) for number, _ in sorted(folds))})" for each, folds in by_print.items()
    )
    if fingerprint is None and len(by_print) > 1:
        raise DefectlocError(
            f"outputs={outputs} holds {len(by_print)} fits of subset={subset}; choose one with fingerprint=NAME: "
            f"{listed}; {HOW}."
        )
    chosen = next(iter(by_print)) if fingerprint is None else fingerprint
    if chosen not in by_print:
        raise DefectlocError(
            f"fingerprint={chosen} is no fit of subset={subset} in outputs={outputs}; there are {listed}."
        )
    return [Run.open(folder) for _, folder in sorted(by_print[chosen])]


def _last(run: Run) -> Path:
    folder = run.last_localization()
    if folder is None:
        raise DefectlocError(f"run={run.folder} has no scores yet; start the same 'defectloc train' again.")
    return folder


def _localizations(run: Run) -> list[Path]:
    folders = [path.parent for path in sorted((run.folder / LOCALIZATION).glob(f"*/{METRICS}"))]
    return [folder for folder in folders if whole_metrics(folder) is not None]


def _config(folder: Path) -> dict[str, Any]:
    content: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    return content
