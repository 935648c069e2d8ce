"""One fold from data to scores: fit it or find it fitted, make its maps, post-process."""

import sys
from pathlib import Path
from typing import Any

from defectloc.config import TrainSettings
from defectloc.data.masks import read_defect_mask
from defectloc.files import lock, write_json
from defectloc.progress import images_bar
from defectloc.reporting.tables import print_metrics
from defectloc.runs import directory, records, tables
from defectloc.runs.bank import bank_maps
from defectloc.runs.directory import LOCK, METRICS, Run
from defectloc.runs.fitting import class_maps, fingerprint, fit_fold, refresh_catalog
from defectloc.runs.fold import Fold
from defectloc.runs.fusion import fusion_maps
from defectloc.runs.localization_setting import Localization
from defectloc.runs.localizing import draw, post_process
from defectloc.runs.preparing import prepare
from defectloc.runs.products import Product
from defectloc.runs.reports.one_run import write_report
from defectloc.runs.supervision import Supervision, supervision_of
from defectloc.runs.tracking.command import tracker_of
from defectloc.runs.tracking.content import tracked_run


def run(settings: TrainSettings) -> tuple[dict[str, Any], Run]:
    """Do what is not done yet of a fold, and post-process it; returns (metrics, run)."""
    fold = prepare(settings)
    # Before the work, after which a tracker that cannot be reached would otherwise be found out.
    tracker = tracker_of(settings.logger, Path(settings.outputs).expanduser())
    folder = directory.folder_of(settings.outputs, settings.subset, settings.fold, fingerprint(fold))
    with lock(folder / LOCK, f"the same fold ({folder})"):
        # Before the fit, which a wrong annotation would otherwise end.
        supervision = supervision_of(fold)
        if not records.is_fitted(folder):
            _check_masks(fold)
            fit_fold(fold, folder)
        else:
            refresh_catalog(fold, folder)
        records.note_root(folder, fold.root)
        cam = class_maps(fold, folder)
        finished = Run.open(folder)
        products = _make_maps(fold, finished, cam, supervision)
        setting = Localization(
            finished, settings.localization, settings.decision, fold.root, settings.data.ignore_mask, products
        )
        metrics = post_process(setting)
        write_json(folder / METRICS, metrics)
        figure = draw(setting, metrics) if settings.figures else None
        report = write_report(finished, fold.root, again=False) if settings.figures else None
        if tracker is not None:
            logged = tracker.add(tracked_run(setting.folder))
    print_metrics(metrics, tables.read_decision(setting.folder))
    print(f"run: {folder}")
    if figure is not None:
        print(f"figure: {figure}")
        print(f"report: {report}")
    if tracker is not None:
        print(f"{'logged' if logged else 'logged before'}: {tracker.place}")
    return metrics, finished


def _make_maps(fold: Fold, finished: Run, cam: Product | None, supervision: Supervision) -> dict[str, Product]:
    """Make the other maps that the settings ask for, unless they are there; returns all by kind."""
    products = {} if cam is None else {"cam": cam}
    if fold.needs_bank:
        products["memory"] = bank_maps(fold, finished.folder)
    if fold.needs_fusion:
        products["fusion"] = fusion_maps(fold, finished, products["memory"], cam, supervision)
    return products


def _check_masks(fold: Fold) -> None:
    """Read the masks before the fit, since one that is damaged, empty or turned would end the run after it."""
    masks = fold.catalog.set_index("path")["mask_path"].dropna()
    with images_bar("checking masks", len(masks)) as advance:
        for path, name in masks.items():
            if (fold.root / name).is_file():
                read_defect_mask(fold.root / name, fold.sizes[str(path)])
            else:
                print(f"note: the mask {fold.root / name} does not exist", file=sys.stderr)
            advance(1)
