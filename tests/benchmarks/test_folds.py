"""What the benchmark's folds are made of."""

import cv2
import numpy as np
from hydra import compose, initialize_config_dir

from defectloc import checks, config
from defectloc.benchmarks.folds import Benchmark
from tests.conftest import SMALL
from tests.narrow import make_narrow


def test_photographs_that_are_not_square_are_squares_as_in_the_other_arms(tmp_path, monkeypatch):
    config.register()
    make_narrow(monkeypatch)
    for number in range(24):
        path = tmp_path / "data" / ("bad" if number < 8 else "good") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((40, 100, 3), 9 * number, np.uint8))
    typed = ["data=folder", f"data.root={tmp_path / 'data'}", "subset=strips", "data.image_size=32", "fold=1"]
    own = [each for each in SMALL if not each.startswith(("data", "figures"))]
    with initialize_config_dir(str(config.directory()), version_base="1.3"):
        settings = checks.typed(compose("benchmark", [*typed, *own]))
    bench = Benchmark(settings, tmp_path / "work")
    assert bench.side == bench.fold.image_size == 32
    assert bench.whole_train.data.image_size == [32, 32]
    assert bench.settings.fold == bench.whole_train.fold == 1
