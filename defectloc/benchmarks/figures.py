"""The single figures: shares of the peak, cost against number and size of images, prediction, memory, equivalence."""

import functools
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from defectloc import runs
from defectloc.data import splits
from defectloc.data.images import read_image
from defectloc.data.module import FeatureDataset
from defectloc.predict import Inspector
from defectloc.speed import arms
from defectloc.speed.equivalence import compare
from defectloc.speed.folds import Benchmark
from defectloc.speed.machine import median_seconds, seconds
from defectloc.speed.memory import peak_bytes


def note_shares_of_peak(bench: Benchmark, costs: arms.Costs, peak: float) -> None:
    """Note how near trunk and tail come to the machine's peak, and our code to the bare network."""
    basis = f"median of {costs.steps} batches"
    bench.note("machine", "convolution peak", peak / 1e9, "GFLOP/s", "best of VGG16's heavy layers")
    bench.note("machine", "threads", bench.settings.threads or len(os.sched_getaffinity(0)), "")
    bench.note("trunk", "bare forward pass, per image", costs.trunk_bare, "s", basis)
    bench.note("trunk", "share of the peak", costs.trunk_operations / costs.trunk_bare / peak, "", basis)
    bench.note("trunk", "extraction / bare forward pass", costs.extraction / costs.trunk_bare, "", basis)
    bench.note("tail", "bare forward and backward pass, per step", costs.tail_bare, "s", basis)
    share = costs.tail_operations * costs.batch_size / costs.tail_bare / peak
    bench.note("tail", "share of the peak", share, "", basis)
    bench.note("tail", "step of the fit", costs.tail_step, "s", basis)
    bench.note("tail", "step / bare forward and backward pass", costs.tail_step / costs.tail_bare, "", basis)
    bench.note("streaming", "step of the fit", costs.stream_step, "s", basis)
    bench.note("case study", "step of its loop", costs.case_step, "s", basis)


def note_numbers_of_images(bench: Benchmark, setting: arms.Setting, costs: arms.Costs) -> pd.DataFrame:
    """Measure extraction and steps of some shares of the images; the other arms grow with the steps."""
    rows, size, batch = [], bench.settings.data.image_size, bench.settings.training.batch_size
    for share in bench.what.shares:
        images = bench.fold.catalog.sample(frac=share, random_state=0)
        bench.say(f"a fold of {len(images)} images")
        classifier, place = setting.classifier(), (images, size, f"share {share}")
        spent = seconds(functools.partial(arms.extract, setting, classifier, *place))
        store = arms.extract(setting, classifier, *place)
        some = images.head((bench.what.steps + 1) * batch)
        dataset = FeatureDataset(store.read(list(some["digest"]), classifier.level), list(some["label"]))
        steps = bench.what.epochs * math.ceil(len(images) / batch)
        row = {
            "images": len(images),
            "case_study": steps * costs.case_step,
            "streaming": steps * costs.stream_step,
            "ours": spent + steps * arms.tail_step(setting, classifier, dataset),
        }
        rows.append(row)
        basis = f"extraction measured, {steps} steps from {2 * bench.what.steps}"
        bench.note("number of images", f"{len(images)} images, {bench.what.epochs} epochs", row["ours"], "s", basis)
        bench.note("number of images", f"{len(images)} images, against streaming", row["streaming"] / row["ours"], "x")
    return pd.DataFrame(rows)


def note_image_sizes(bench: Benchmark, costs: dict[int, arms.Costs]) -> None:
    """Note what a training image costs at each size in each arm."""
    for size, cost in costs.items():
        basis = f"{bench.what.epochs} epochs from {cost.steps} steps"
        per_image = {
            "case study": bench.what.epochs * cost.case_step / cost.batch_size,
            "streaming": bench.what.epochs * cost.stream_step / cost.batch_size,
            "store": cost.extraction + bench.what.epochs * cost.tail_step / cost.batch_size,
        }
        for arm, value in per_image.items():
            bench.note("image size", f"{size} px, {arm}, per training image", value, "s", basis)


def note_prediction(bench: Benchmark) -> None:
    """Measure latency and throughput from the file to the boxes."""
    bench.say("prediction")
    _, finished, _ = bench.fitted()
    inspector = Inspector(finished, bench.fold.device)
    paths = [bench.fold.root / path for path in bench.fold.rows(splits.TEST)["path"].head(24)]

    def predict(some: list[Path]) -> None:
        images = [read_image(path) for path in some]
        for image, found in zip(images, inspector.maps(images), strict=True):
            inspector.inspect(image, *found)

    latency = median_seconds(lambda: predict(paths[:1]), 3 * bench.what.steps)
    batches = [paths[start : start + 8] for start in range(0, len(paths), 8)]

    def predict_all() -> None:
        for batch in batches:
            predict(batch)

    spent = median_seconds(predict_all, 1)
    bench.note("prediction", "latency of one image, decoding to box", latency, "s", f"median of {3 * bench.what.steps}")
    bench.note("prediction", "throughput in batches of 8", len(paths) / spent, "images/s", f"{len(paths)} images")


def note_maps(bench: Benchmark) -> None:
    """Measure what an image costs with each map, from the decoded image to map and score, and what is stored for it."""
    for size in bench.what.image_sizes:
        bench.say(f"the maps at {size} px")
        inspectors, stored = {}, {}
        for kind in ("cam", "memory", "fusion"):
            finished = _fitted_for(bench, kind, size)
            inspectors[kind], stored[kind] = Inspector(finished, bench.fold.device), bench.stored()
        images = [read_image(bench.fold.root / path) for path in bench.fold.rows(splits.TEST)["path"].head(24)]
        spent: dict[str, list[float]] = {kind: [] for kind in inspectors}
        # In turn, so that what else the machine does meets all of them; the first round warms up.
        for _ in range(1 + bench.what.steps):
            for kind, inspector in inspectors.items():
                spent[kind].append(seconds(functools.partial(_look, inspector, images)) / len(images))
        medians = {kind: float(np.median(values[1:])) for kind, values in spent.items()}
        basis = f"median of {bench.what.steps} rounds of {len(images)} images in batches of 8, decoded"
        for kind, value in medians.items():
            bench.note("maps", f"{size} px, {kind}, per image", value, "s", basis)
            bench.note("maps", f"{size} px, {kind} / cam", value / medians["cam"], "", basis)
        more = stored["memory"] - stored["cam"]
        bench.note("maps", f"{size} px, stored for the memory, per image", more, "bytes")
        for name in (runs.MEMORY, runs.FUSION):
            bench.note("maps", f"{size} px, {name}", (finished.folder / name).stat().st_size, "bytes")


def _fitted_for(bench: Benchmark, kind: str, size: int) -> runs.Run:
    # The network's weights make no difference to the time, so one epoch is enough.
    return bench.fitted(
        data=replace(bench.settings.data, image_size=size),
        training=replace(bench.settings.training, epochs=1),
        localization=replace(bench.settings.localization, map=kind),
        decision=replace(bench.settings.decision, score=kind if kind != "cam" else "class"),
    )[1]


def _look(inspector: Inspector, images: list[np.ndarray]) -> None:
    for start in range(0, len(images), 8):
        inspector.maps(images[start : start + 8])


def note_memory(bench: Benchmark) -> None:
    """Measure the peak memory for some numbers of images."""
    found = []
    for n_images in bench.what.memory_images:
        bench.say(f"peak memory with {n_images} images")
        found.append(peak_bytes(n_images, bench.settings.data.image_size))
        bench.note("memory", f"peak with {n_images} images", found[-1] / 1e6, "MB", "noise, trunk run once, head only")
    if len(found) > 1:
        bench.note("memory", "growth of the peak", found[-1] / found[0] - 1, "", "last against first")


def note_equivalence(bench: Benchmark, folder: Path) -> None:
    """Compare stored with fresh features, and the fits from both."""
    bench.say("equivalence of stored and fresh features")
    batch, epochs = bench.settings.training.batch_size, 2
    some = bench.fold.rows(splits.TRAIN).sample(min(bench.n[splits.TRAIN], bench.what.steps * batch), random_state=0)
    test = bench.fold.rows(splits.TEST).head(4 * batch)
    basis = f"{len(some)} images, {epochs} epochs, {len(test)} test images"
    for row in compare(bench.settings, bench.fold.root, some, test, epochs, folder):
        for figure in ("features", "log_odds", "decisions", "near"):
            bench.note("difference to streaming", f"{row['origin']}: {figure}", row[figure], "", basis)
