"""Post-processing of a finished run: verdicts, boxes and scores of one setting; no network, no torch."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from defectloc.config import DecisionConfig, LocalizationConfig, LocalizeSettings, Score
from defectloc.data.digests import Digests
from defectloc.errors import DefectlocError
from defectloc.evaluation.image import image_scores
from defectloc.files import lock, read_json, write_text
from defectloc.localization.boxes import to_coco
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer, ValidationMap
from defectloc.localization.scores import top_k_mean
from defectloc.reporting.tables import print_metrics
from defectloc.runs import directory, scoring
from defectloc.runs.directory import LOCALIZATION, LOCK, METRICS, Run, rows_of, stacked, write_csv, write_json
from defectloc.runs.drawing import draw_run
from defectloc.runs.maps import RunMaps, truth_digest
from defectloc.runs.products import Product
from defectloc.runs.shortcut_table import read_shortcut_table

# Raised when the code changes what a localization holds.
VERSION = 1
CLASS = "class"
PREDICTION_COLUMNS = [
    "path",
    "split",
    "label",
    "defect_type",
    "log_odds",
    "score",
    "probability",
    "predicted",
    "verdict",
]


class Localization:
    """One setting of a run: which maps it uses, and the folder that is addressed by all that it is made from."""

    def __init__(
        self,
        run: Run,
        localization: LocalizationConfig,
        decision: DecisionConfig,
        root: Path | None = None,
        ignore_mask: str | None = None,
        products: dict[str, Product] | None = None,
    ) -> None:
        """`products`: the maps to use by kind; those that are not given are the ones `train` was last asked for."""
        self.run, self.localization, self.decision = run, localization, decision
        self.root = root or Path(run.record["root"])
        given = dict(products or {})
        kinds = {str(localization.map), *({str(decision.score)} - {CLASS})}
        if run.has_class_network:
            kinds.add("cam")
        elif decision.score == CLASS:
            run.require_class_network()
        if "fusion" in kinds:
            kinds.add("memory")
        self.products = {kind: given.get(kind) or run.product(kind) for kind in sorted(kinds)}
        digests = Digests(run.folder.parent.parent / ".digests")
        self.truth = truth_digest(run, self.root, ignore_mask, digests)
        self._ignore_mask = ignore_mask
        self.maps = self._maps_of(str(localization.map))

    @property
    def name(self) -> str:
        """Name the folder by a hash of settings, products, ground truth and code version."""
        made_from = {
            "version": [VERSION, scoring.VERSION],
            "localization": asdict(self.localization),
            "decision": asdict(self.decision),
            "maps": {kind: product.name for kind, product in self.products.items()},
            "truth": self.truth,
        }
        return f"{self.localization.map}-{directory.digest_of(made_from)[:8]}"

    @property
    def folder(self) -> Path:
        """Give the folder."""
        return self.run.folder / LOCALIZATION / self.name

    def _maps_of(self, kind: str) -> RunMaps:
        return RunMaps(self.run, kind, self.root, self._ignore_mask, self.products[kind])

    def images(self) -> pd.DataFrame:
        """Give the held-out images with the columns that their score is made of."""
        images, kind = self.run.images(), str(self.decision.score)
        if kind == CLASS:
            return images
        images = images.assign(map_score=top_k_mean(stacked(self.run.maps(kind, self.products[kind]), images)))
        if kind == "fusion":
            retained = read_shortcut_table(self.products["fusion"])
            images = images.merge(retained, on="path", how="left", validate="1:1")
        return images

    def reliability_counts(self) -> tuple[int, int]:
        """Give how many training images the class network finds, and how many of them it still does when replaced."""
        if self.decision.score != "fusion":
            return 0, 0
        predicted, retained = self.products["fusion"].note["reliability_counts"]
        return int(predicted), int(retained)

    def localizer(self) -> Localizer:
        """Fit the way from map to boxes on the validation split."""
        validation = self.maps.split("validation")
        good = validation[validation["label"] == 0]

        def native() -> Iterator[ValidationMap]:
            for row in validation.itertuples():
                mask = self.maps.mask(row) if self.localization.use_masks else None
                yield ValidationMap(self.maps.map(row), int(row.label), mask, self.maps.ignored(row))

        return Localizer.fit(self.localization, native, lambda: (self.maps.cells[path] for path in good["path"]))

    def bank_auroc(self) -> float | None:
        """Measure the image AUROC of the memory bank alone on the validation split; None where it cannot be."""
        if "memory" not in self.products:
            return None
        validation = rows_of(self.run.images(), "validation")
        score = top_k_mean(stacked(self.run.maps("memory", self.products["memory"]), validation))
        return image_scores(validation["label"], score, None)["auroc"]

    def shortcut(self) -> dict[str, Any] | None:
        """Score what the class decision rests on; None where no fusion was made."""
        if "fusion" not in self.products:
            return None
        retained = read_shortcut_table(self.products["fusion"])
        return scoring.shortcut(self._maps_of("cam"), retained, self.bank_auroc())


def post_process(setting: Localization) -> dict[str, Any]:
    """Localise and score the held-out images of a run by one setting; found again when it was done before.

    Returns the content of `metrics.json`. What is chosen or calibrated is chosen on the validation split.
    """
    folder = setting.folder
    finished = read_json(folder / METRICS)
    if finished is not None:
        return finished
    started = time.perf_counter()
    run, maps = setting.run, setting.maps
    images, counts = setting.images(), setting.reliability_counts()
    validation = rows_of(images, "validation")
    decision = Decision.fit(validation, setting.decision, counts)
    localizer = setting.localizer()
    for sentence in [*decision.messages, *localizer.messages]:
        print(f"note: {sentence}", file=sys.stderr)
    decided = decision.apply(images)
    test = rows_of(decided, "test")
    boxes, box_scores = scoring.boxes_and_scores(maps, test, localizer)
    localized = time.perf_counter()
    metrics: dict[str, Any] = {
        "subset": run.record["subset"],
        "fold": run.record["fold"],
        "n_train": run.record["n_train"],
        "n_validation": len(validation),
        "n_test": len(test),
        "n_masks": maps.n_masks,
        **scoring.decision_scores(test, None not in (setting.decision.max_escape_rate, setting.decision.max_overkill_rate)),
        **scoring.map_scores(maps, setting.truth),
        **box_scores,
        "class_network": _class_network(setting),
        "shortcut": setting.shortcut(),
        "calibration": asdict(decision.calibration),
        "validation": _validation_scores(setting, validation, localizer, counts),
        "epochs": run.record["epochs"],
        "localization": folder.name,
        "maps": {kind: product.name for kind, product in setting.products.items()},
    }
    spent = {kind: product.note["seconds"] for kind, product in setting.products.items()}
    spent["predict"] = spent.pop("cam", 0.0)
    spent |= {"localize": round(localized - started, 3), "evaluate": round(time.perf_counter() - localized, 3)}
    metrics["seconds"] = {**run.record["seconds"], **spent}
    _write(setting, decision, localizer, decided, boxes)
    # Last, since it marks the folder as whole.
    write_json(folder / METRICS, metrics)
    return metrics


def _class_network(setting: Localization) -> dict[str, Any] | None:
    if not setting.run.has_class_network:
        return None
    return scoring.class_network_scores(setting.run.images(), replace(setting.decision, score=Score["class"]))


def _validation_scores(
    setting: Localization,
    validation: pd.DataFrame,
    localizer: Localizer,
    counts: tuple[int, int],
) -> dict[str, Any]:
    """Score the validation split by the same setting, decisions cross-fitted: what a setting may be chosen by."""
    held_out = Decision.cross_fit(validation, setting.decision, counts)
    image = image_scores(held_out["label"], held_out["score"], held_out["predicted"])
    _, box = scoring.boxes_and_scores(setting.maps, held_out, localizer)
    return {name: image[name] for name in ("balanced_accuracy", "auroc")} | {
        name: box[name] for name in ("box_f1_30", "box_f1_50")
    }


def _write(
    setting: Localization, decision: Decision, localizer: Localizer, decided: pd.DataFrame, boxes: pd.DataFrame
) -> None:
    folder, test = setting.folder, rows_of(decided, "test")
    sizes = {str(row.path): (int(row.height), int(row.width)) for row in test.itertuples()}
    config = {
        "localization": asdict(setting.localization),
        "decision": asdict(setting.decision),
        "maps": {kind: product.made_from for kind, product in setting.products.items()},
        "truth": setting.truth,
    }
    write_csv(folder / "predictions.csv", decided[PREDICTION_COLUMNS])
    write_csv(folder / "boxes.csv", boxes)
    coco = to_coco(sizes, boxes, description=f"defectloc, {setting.run.record['subset']}")
    write_json(folder / "boxes.coco.json", coco)
    write_json(folder / "decision.json", decision.to_json())
    write_json(folder / "localizer.json", localizer.to_json())
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))


def draw(setting: Localization, metrics: dict[str, Any]) -> Path:
    """Draw the figures of one localization; returns the sheet of test images."""
    folder = setting.folder
    decision = Decision.from_json(read_json(folder / "decision.json") or {})
    localizer = Localizer.from_json(read_json(folder / "localizer.json") or {})
    return draw_run(setting.run, setting.maps, metrics, decision, localizer, folder)


def run(settings: LocalizeSettings) -> dict[str, Any]:
    """Post-process a finished run; returns its metrics."""
    finished = Run.open(settings.run)
    root = None if settings.root is None else Path(settings.root).expanduser()
    if root is not None and not root.is_dir():
        raise DefectlocError(f"root={settings.root} does not exist.")
    with lock(finished.folder / LOCK, f"the same run ({finished.folder})"):
        setting = Localization(finished, settings.localization, settings.decision, root, settings.ignore_mask)
        metrics = post_process(setting)
        figure = draw(setting, metrics) if settings.figures else None
    print_metrics(metrics, Decision.from_json(read_json(setting.folder / "decision.json") or {}))
    print(setting.folder)
    if figure is not None:
        print(f"figure: {figure}")
    return metrics
