"""All methods on the same test images of a run: where the defect is, what the score depends on, what it costs."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from defectloc.attribution.explainer import Explainer, Explanation
from defectloc.attribution.faithfulness import insertion_deletion
from defectloc.attribution.methods import INSIDE, METHODS, PERTURBATION, check
from defectloc.attribution.network import ClassScore, ExplainedModel
from defectloc.attribution.sanity import change, randomized
from defectloc.config import ExplainSettings
from defectloc.data.images import read_image
from defectloc.data.resize import resize
from defectloc.errors import DefectlocError
from defectloc.evaluation.scoring import LocatedScores, MapSample, MapScores, score
from defectloc.figures.comparison import draw_comparison
from defectloc.files import digest, write_json, write_text
from defectloc.localization.boxes import COLUMNS
from defectloc.localization.localizer import Localizer
from defectloc.progress import images_bar
from defectloc.reporting.attribution import as_text, printed, summary
from defectloc.reporting.summary import markdown
from defectloc.runs.directory import Run
from defectloc.runs.explaining.class_network import model_of_run, open_run, prepared_device, verdict
from defectloc.runs.maps import RunMaps
from defectloc.runs.predictor import Predictor
from defectloc.runs.tables import write_csv

DEFECT = 1
SCORES = ("pixel_auroc", "pixel_ap", "aupro", "pointing_game", "box_f1_30")


@dataclass(frozen=True)
class _Compared:
    """A run, its class network and a randomised copy, and its test images of either class in random order."""

    run: Run
    model: ExplainedModel
    randomized: ExplainedModel
    methods: list[str]
    maps: RunMaps
    defective: pd.DataFrame
    good: pd.DataFrame
    # the paths of those that the run predicts defective
    predicted_defective: frozenset[str]
    localizer: Localizer
    output: Path

    def first(self, n: int) -> pd.DataFrame:
        """The first `n` images of each class, so that a smaller set is part of every larger one."""
        return pd.concat([self.defective.head(n), self.good.head(n)])


@dataclass(frozen=True)
class _Explained:
    """One row of a run's images with its explanation."""

    row: Any
    explanation: Explanation


def compare(settings: ExplainSettings) -> Path:
    """Score the methods and write table and figure; what was finished before is not repeated. Returns the folder.

    Raises DefectlocError for methods that cannot run where they were named.
    """
    budget = settings.comparison
    compared = _compared(settings)
    table: list[dict[str, Any]] = []
    for method in compared.methods:
        family = METHODS[method].family
        n = budget.images_perturbation if family == PERTURBATION else budget.images
        explainer, of_randomized = (
            Explainer(method, model, settings.attribution, settings.seed, settings.layer, compared.output / "maps")
            for model in (compared.model, compared.randomized)
        )
        images = list(_explained(compared, explainer, compared.first(n)))
        measured = _tested(compared, settings, explainer, of_randomized, images) | _costs(images)
        # On the images that all methods explained, and on all that this one did.
        for size in (min(budget.images, budget.images_perturbation), n):
            paths = set(compared.first(size)["path"])
            few = [image for image in images if image.row.path in paths]
            n_defective = sum(image.row.label for image in few)
            row = {"method": method, "family": family, "images": f"{n_defective} + {len(few) - n_defective}"}
            if (method, row["images"]) not in [(each["method"], each["images"]) for each in table]:
                table.append(row | _scores(compared, few) | measured)
        budgets = vars(budget) | vars(settings.attribution)
        write_json(compared.output / "comparison.json", {"budgets": budgets, "rows": table})
    return _report(table, compared)


def _compared(settings: ExplainSettings) -> _Compared:
    run, budget = open_run(settings), settings.comparison
    maps = RunMaps(run, "cam", run.data_root(settings.root), settings.ignore_mask)
    test = maps.split("test")
    largest = max(budget.images, budget.images_perturbation)
    classes = {}
    for label, word in ((DEFECT, "defective"), (0, "good")):
        images = test[test["label"] == label]
        order = np.random.default_rng(settings.seed).permutation(len(images))
        classes[word] = images.iloc[order].head(largest)
        if len(images) < largest:
            print(f"note: the run has {len(images)} {word} test images only, and all are taken", file=sys.stderr)
    device = prepared_device(settings)
    model = model_of_run(run, settings, device)
    return _Compared(
        run=run,
        model=model,
        randomized=randomized(model, settings.seed),
        methods=_methods(model, settings),
        maps=maps,
        defective=classes["defective"],
        good=classes["good"],
        predicted_defective=_predicted_defective(Predictor(run, device), maps, pd.concat(classes.values())),
        # Of fixed settings; nothing is fitted to images.
        localizer=Localizer.fixed(settings.localization),
        output=run.folder / "explain" if settings.output is None else Path(settings.output).expanduser(),
    )


def _predicted_defective(predictor: Predictor, maps: RunMaps, images: pd.DataFrame) -> frozenset[str]:
    found = set()
    with images_bar("predicting", len(images)) as advance:
        for row in images.itertuples():
            if verdict(predictor, read_image(maps.root / row.path)).prediction.predicted == DEFECT:
                found.add(row.path)
            advance(1)
    return frozenset(found)


def _methods(model: ExplainedModel, settings: ExplainSettings) -> list[str]:
    """Choose what can run; what was named has to."""
    named = settings.comparison.methods
    chosen = []
    for method in named or [name for name in METHODS if METHODS[name].family != INSIDE]:
        try:
            check(method, model)
        except DefectlocError as error:
            if named:
                raise
            print(f"note: left out, since {error}", file=sys.stderr)
        else:
            chosen.append(method)
    return chosen


def _explained(compared: _Compared, explainer: Explainer, rows: pd.DataFrame) -> Iterator[_Explained]:
    with images_bar(explainer.method, len(rows)) as advance:
        for row in rows.itertuples():
            yield _Explained(row, explainer.explain(read_image(compared.maps.root / row.path), DEFECT))
            advance(1)


def _tested(
    compared: _Compared,
    settings: ExplainSettings,
    explainer: Explainer,
    of_randomized: Explainer,
    images: list[_Explained],
) -> dict[str, float | None]:
    """Measure insertion, deletion and sanity on the first defective images; each image's result is stored."""
    budget = settings.comparison
    defective = [image for image in images if image.row.label == DEFECT]
    found: dict[str, list[float | None]] = {"insertion": [], "deletion": [], "sanity": []}
    # Of images that all methods explain.
    n_common = min(budget.images, budget.images_perturbation, len(defective))
    n_faithful, n_sane = min(budget.images_faithfulness, n_common), min(budget.images_sanity, n_common)
    n_tests = max(n_faithful, n_sane)
    with images_bar(f"{explainer.method}: tests", n_tests) as advance:
        for number, image in enumerate(defective[:n_tests]):
            content = digest(compared.maps.root / image.row.path)[:16]
            path = compared.output / "maps" / explainer.key / f"{content}-{budget.steps_faithfulness}.json"
            before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            after = dict(before)
            if number < n_faithful and "insertion" not in after:
                after |= _faithfulness(compared, settings, image)
            if number < n_sane and "sanity" not in after:
                photograph = read_image(compared.maps.root / image.row.path)
                after["sanity"] = change(image.explanation.map, of_randomized.explain(photograph, DEFECT).map)
            if after != before:
                write_json(path, after)
            for key, values in found.items():
                if number < (n_sane if key == "sanity" else n_faithful):
                    values.append(after[key])
            advance(1)
    return {key: _mean([value for value in values if value is not None]) for key, values in found.items()}


def _faithfulness(compared: _Compared, settings: ExplainSettings, image: _Explained) -> dict[str, float]:
    size = compared.model.image_size
    importance = image.explanation.reduced(size)
    photograph = resize(read_image(compared.maps.root / image.row.path), size)[None]
    steps, batch_size = settings.comparison.steps_faithfulness, settings.attribution.batch_size
    anomaly = ClassScore(compared.model, DEFECT)
    insertion, deletion = insertion_deletion(anomaly, photograph, importance, steps, batch_size, settings.seed)
    return {"insertion": insertion, "deletion": deletion}


def _scores(compared: _Compared, images: list[_Explained]) -> dict[str, float | None]:
    """Score raw maps, and boxes of those predicted defective, against the masks; unknown masks are left out."""
    # Without any mask nothing is known of pixels, not even of those of good images.
    samples = _samples(compared, images) if compared.maps.n_masks else []
    scores = score(samples, MapScores(), LocatedScores())
    return {name: scores[name] for name in SCORES}


def _samples(compared: _Compared, images: list[_Explained]) -> Iterator[MapSample]:
    none = pd.DataFrame(columns=COLUMNS, dtype=float)
    for image in images:
        row = image.row
        mask, ignored = compared.maps.mask(row), compared.maps.ignored(row)
        if mask is None:
            continue
        values = image.explanation.at((row.height, row.width))
        if ignored is not None:
            # As in the run's own maps.
            values = np.where(ignored, values.min(), values)
        boxes = compared.localizer.boxes(values) if row.path in compared.predicted_defective else none
        yield MapSample(str(row.path), values, mask, ignored, boxes)


def _costs(images: list[_Explained]) -> dict[str, float]:
    # The median, since the first image of a method also loads what it needs.
    seconds = float(np.median([image.explanation.seconds for image in images]))
    return {"seconds": seconds, "evaluations": float(np.mean([image.explanation.evaluations for image in images]))}


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _report(rows: list[dict[str, Any]], compared: _Compared) -> Path:
    table, output, record = summary(rows), compared.output, compared.run.record
    readable = as_text(table)
    write_csv(output / "comparison.csv", table)
    write_text(output / "comparison.md", markdown(readable))
    draw_comparison(table, f"{record['subset']}, fold {record['fold']}: methods compared", output / "comparison.png")
    Console(width=None if sys.stdout.isatty() else 200).print(printed(readable))
    print(f"table: {output / 'comparison.csv'}, {output / 'comparison.md'}")
    print(f"figure: {output / 'comparison.png'}")
    return output
