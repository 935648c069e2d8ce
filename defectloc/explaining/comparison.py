"""All methods on the same test images of a run: where the defect is, what the network needs, what it costs."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from defectloc.config import ExplainSettings
from defectloc.data.images import read_image
from defectloc.data.resize import resize
from defectloc.errors import DefectlocError
from defectloc.evaluation.box import BoxScores, pointing_game
from defectloc.evaluation.pixel import PixelScores
from defectloc.explaining.asked import Asked, Case, boxes_of, heat_of
from defectloc.explaining.kept import Maker
from defectloc.explaining.targets import answer
from defectloc.figures.comparison import draw_comparison
from defectloc.files import write_text
from defectloc.heat import RunMaps
from defectloc.localization.boxes import CORNERS, boxes_of_mask
from defectloc.localization.maps import upsample
from defectloc.progress import images_bar
from defectloc.reporting.attribution import shown, summary
from defectloc.reporting.summary import markdown
from defectloc.runs import write_csv, write_json

if TYPE_CHECKING:
    from defectloc.attribution.subject import Subject

DEFECT = 1


def compare(asked: Asked, settings: ExplainSettings) -> Path:
    """Score the methods and write table and figure; what was finished before is not repeated. Returns the folder.

    Raises DefectlocError for methods that cannot run where they were named.
    """
    assert asked.run is not None
    budget = settings.comparison
    maps = RunMaps(asked.run, "cam", asked.base)
    bad, good = (_ordered(asked.images[asked.images["label"] == label], settings.seed) for label in (1, 0))
    for label, rows in (("defective", bad), ("good", good)):
        if len(rows) < max(budget.cheap, budget.perturbation):
            print(f"note: the run has {len(rows)} {label} test images only, and all are taken", file=sys.stderr)
    from defectloc.attribution.methods import METHODS, PERTURBATION
    from defectloc.attribution.sanity import shuffled

    other = shuffled(asked.subject, settings.seed)
    table: list[dict[str, Any]] = []
    for method in _methods(asked, settings):
        family = METHODS[method].family
        n = budget.perturbation if family == PERTURBATION else budget.cheap
        maker, stranger = (_maker(subject, method, asked, settings) for subject in (asked.subject, other))
        cases = list(_explained(asked, maker, pd.concat([bad.head(n), good.head(n)])))
        measured = _tested(asked, settings, maker, stranger, cases) | _costs(cases)
        # On the images that all methods explained, and on all that this one did.
        for size in (min(budget.cheap, budget.perturbation), n):
            few = [case for case in cases if case.row.path in {*bad.head(size)["path"], *good.head(size)["path"]}]
            n_bad = sum(case.row.label for case in few)
            row = {"method": method, "family": family, "images": f"{n_bad} + {len(few) - n_bad}"}
            if (method, row["images"]) not in [(each["method"], each["images"]) for each in table]:
                table.append(row | _scores(few, maps, asked, settings) | measured)
        budgets = vars(budget) | vars(settings.attribution)
        write_json(asked.output / "comparison.json", {"budgets": budgets, "rows": table})
    return _report(table, asked, settings)


def _methods(asked: Asked, settings: ExplainSettings) -> list[str]:
    """Choose what can run; what was named has to."""
    from defectloc.attribution.methods import INSIDE, METHODS, check

    named = settings.comparison.methods
    chosen = []
    for method in named or [name for name in METHODS if METHODS[name].family != INSIDE]:
        try:
            check(method, asked.subject)
        except DefectlocError as error:
            if named:
                raise
            print(f"note: left out, since {error}", file=sys.stderr)
        else:
            chosen.append(method)
    return chosen


def _ordered(images: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Shuffle, so that the first few are a fair sample and stay the first few of any larger one."""
    return images.iloc[np.random.default_rng(seed).permutation(len(images))]


def _maker(subject: "Subject", method: str, asked: Asked, settings: ExplainSettings) -> Maker:
    return Maker(method, subject, settings.attribution, settings.seed, settings.layer, asked.output / "maps")


def _explained(asked: Asked, maker: Maker, rows: pd.DataFrame) -> Iterator[Case]:
    with images_bar(maker.method, len(rows)) as advance:
        for row in rows.itertuples():
            image = read_image(asked.base / row.path)
            said = answer(asked.subject, image, asked.decision)
            yield Case(row, image, said, DEFECT, maker.explain(image, DEFECT))
            advance(1)


def _tested(
    asked: Asked, settings: ExplainSettings, maker: Maker, stranger: Maker, cases: list[Case]
) -> dict[str, float | None]:
    """Measure insertion, deletion and sanity on the first defective images; each image's result is kept."""
    from defectloc.attribution.faithfulness import insertion_deletion
    from defectloc.attribution.sanity import change
    from defectloc.attribution.subject import Question

    budget, size = settings.comparison, asked.subject.image_size
    defective = [case for case in cases if case.row.label == DEFECT]
    found: dict[str, list[float | None]] = {"insertion": [], "deletion": [], "sanity": []}
    # Of images that all methods explain.
    n_common = min(budget.cheap, budget.perturbation, len(defective))
    n_faithful, n_sane = min(budget.faithfulness, n_common), min(budget.sanity, n_common)
    n_tests = max(n_faithful, n_sane)
    with images_bar(f"{maker.method}: tests", n_tests) as advance:
        for number, case in enumerate(defective[:n_tests]):
            heat = upsample(case.found.heat, (size, size), size, case.found.grid)
            name = f"{case.row.path.replace('/', '_')}-{budget.faithfulness_steps}.json"
            kept = asked.output / "maps" / maker.key / name
            before = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
            after = dict(before)
            if number < n_faithful and "insertion" not in after:
                question = Question(asked.subject, DEFECT)
                image = resize(case.image, size)[None]
                chunk, steps = settings.attribution.chunk, budget.faithfulness_steps
                areas = insertion_deletion(question, image, heat, steps, chunk, settings.seed)
                after |= dict(zip(("insertion", "deletion"), areas, strict=True))
            if number < n_sane and "sanity" not in after:
                after["sanity"] = change(case.found.heat, stranger.explain(case.image, DEFECT).heat)
            if after != before:
                write_json(kept, after)
            for key, values in found.items():
                if number < (n_sane if key == "sanity" else n_faithful):
                    values.append(after[key])
            advance(1)
    return {key: _mean([value for value in values if value is not None]) for key, values in found.items()}


def _scores(cases: list[Case], maps: RunMaps, asked: Asked, settings: ExplainSettings) -> dict[str, float | None]:
    """Score raw maps and boxes against the masks; images whose mask is not known are left out."""
    pixels, boxes, hits = PixelScores(), BoxScores(), []
    for case in cases:
        mask = maps.mask(case.row) if maps.n_masks else None
        if mask is None:
            continue
        heat = heat_of(case, asked.subject.image_size)
        ignored = maps.ignored(case.row)
        heat = heat if ignored is None else np.where(ignored, heat.min(), heat)
        pixels.add(heat, mask, ignored)
        if mask.any():
            hits.append(pointing_game(heat, mask))
        corners = boxes_of(case, heat, settings) if case.answer.predicted == DEFECT else np.zeros((0, 4))
        found = pd.DataFrame(corners, columns=CORNERS).assign(score=1.0)
        boxes.add(case.row.path, found, boxes_of_mask(mask), mask.shape)
    scores = pixels.compute()
    return {
        **{name: scores[name] for name in ("pixel_auroc", "pixel_ap", "aupro")},
        "pointing_game": _mean(hits),
        "box_f1_30": boxes.compute()["box_f1_30"],
    }


def _costs(cases: list[Case]) -> dict[str, float]:
    # The median, since the first image of a method also loads what it needs.
    seconds = float(np.median([case.found.seconds for case in cases]))
    return {"seconds": seconds, "evaluations": float(np.mean([case.found.evaluations for case in cases]))}


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _report(rows: list[dict[str, Any]], asked: Asked, settings: ExplainSettings) -> Path:
    table = summary(rows)
    readable = shown(table)
    write_csv(asked.output / "comparison.csv", table)
    write_text(asked.output / "comparison.md", markdown(readable))
    figure = asked.output / "comparison.png"
    assert asked.run is not None
    record = asked.run.record
    draw_comparison(table, f"{record['subset']}, fold {record['fold']}: methods compared", figure)
    printed = Table(title="methods compared; images: defective + good", title_justify="left")
    for name in readable.columns:
        printed.add_column(name, justify="left" if name in ("method", "images") else "right")
    for row in readable.itertuples(index=False):
        printed.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200).print(printed)
    print(f"table: {asked.output / 'comparison.csv'}, {asked.output / 'comparison.md'}")
    print(f"figure: {figure}")
    return asked.output
