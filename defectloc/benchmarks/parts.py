"""The single figures: shares of the peak, cost by image size and by map, prediction, memory, equivalence."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from defectloc.benchmarks import memory
from defectloc.benchmarks.arms import Costs
from defectloc.benchmarks.equivalence import compare
from defectloc.benchmarks.folds import Benchmark, squares
from defectloc.benchmarks.machine import median_seconds, seconds
from defectloc.config import MapKind, Score
from defectloc.data import splits
from defectloc.data.images import read_image
from defectloc.runs.bank import BANK
from defectloc.runs.directory import Run
from defectloc.runs.fusion import HEAD
from defectloc.runs.predictor import Predictor

# Images at once where throughput is measured.
BATCH = 8
# At most so many test images are predicted again and again.
N_PREDICTED = 24


def note_shares_of_peak(bench: Benchmark, costs: Costs, peak: float) -> None:
    """Note how near trunk and tail come to the machine's peak, and our code to the bare network."""
    basis = f"median of {costs.steps} batches"
    bench.note("machine", "convolution peak", peak / 1e9, "GFLOP/s", "best of VGG16's heavy layers")
    bench.note("machine", "threads", torch.get_num_threads(), "")
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


def note_image_sizes(bench: Benchmark, costs: dict[int, Costs]) -> None:
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
    predictor = Predictor(finished, bench.fold.device)
    paths = [bench.fold.root / path for path in bench.fold.rows(splits.TEST)["path"].head(N_PREDICTED)]

    def predict(some: list[Path]) -> None:
        predictor.predict([read_image(path) for path in some])

    latency = median_seconds(lambda: predict(paths[:1]), 3 * bench.what.steps)
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]

    def predict_all() -> None:
        for batch in batches:
            predict(batch)

    spent = median_seconds(predict_all, 1)
    bench.note("prediction", "latency of one image, decoding to box", latency, "s", f"median of {3 * bench.what.steps}")
    bench.note(
        "prediction", f"throughput in batches of {BATCH}", len(paths) / spent, "images/s", f"{len(paths)} images"
    )


def note_maps(bench: Benchmark) -> None:
    """Measure seconds per image with each map, from decoded images to verdicts and boxes, and what is stored for it."""
    for size in bench.what.image_sizes:
        bench.say(f"the maps at {size} px")
        predictors, stored = {}, {}
        for kind in MapKind:
            finished = _fitted_for(bench, kind, size)
            predictors[kind], stored[kind] = Predictor(finished, bench.fold.device), bench.stored()
        paths = bench.fold.rows(splits.TEST)["path"].head(N_PREDICTED)
        images = [read_image(bench.fold.root / path) for path in paths]
        spent: dict[MapKind, list[float]] = {kind: [] for kind in predictors}
        # In turn, so that what else the machine does meets all of them; the first round warms up.
        for _ in range(1 + bench.what.steps):
            for kind, predictor in predictors.items():
                spent[kind].append(seconds(functools.partial(_predict, predictor, images)) / len(images))
        medians = {kind: float(np.median(values[1:])) for kind, values in spent.items()}
        basis = f"median of {bench.what.steps} rounds of {len(images)} images in batches of {BATCH}, decoded"
        for kind, value in medians.items():
            bench.note("maps", f"{size} px, {kind}, per image", value, "s", basis)
            bench.note("maps", f"{size} px, {kind} / cam", value / medians[MapKind.cam], "", basis)
        more = stored[MapKind.memory] - stored[MapKind.cam]
        bench.note("maps", f"{size} px, stored for the memory bank, per image", more, "bytes")
        for kind, name in ((MapKind.memory, BANK), (MapKind.fusion, HEAD)):
            file = finished.product(kind).folder / name
            bench.note("maps", f"{size} px, {name}", file.stat().st_size, "bytes")


def _fitted_for(bench: Benchmark, kind: MapKind, size: int) -> Run:
    # The network's weights make no difference to the time, so one epoch is enough.
    return bench.fitted(
        data=replace(bench.settings.data, image_size=squares(size)),
        training=replace(bench.settings.training, epochs=1),
        localization=replace(bench.settings.localization, map=kind),
        decision=replace(bench.settings.decision, score=Score["class" if kind == MapKind.cam else str(kind)]),
    )[1]


def _predict(predictor: Predictor, images: list[np.ndarray]) -> None:
    for start in range(0, len(images), BATCH):
        predictor.predict(images[start : start + BATCH])


def note_memory(bench: Benchmark) -> None:
    """Measure how the peak memory grows with the number of images."""
    found = []
    for n_images in memory.NUMBERS:
        bench.say(f"peak memory with {n_images} images")
        found.append(memory.peak_bytes(n_images, bench.side))
        bench.note("memory", f"peak with {n_images} images", found[-1] / 1e6, "MB", "trunk run once, head only")
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
