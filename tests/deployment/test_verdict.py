"""Score, probability, normalisation and mask inside the graph, against `Decision` and `Localizer`."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from defectloc.deployment import verdict
from defectloc.deployment.graph import Graph
from defectloc.localization.calibration import Calibration
from defectloc.localization.decision import Decision, Limit
from defectloc.localization.localizer import Localizer
from defectloc.localization.normalization import Scale
from defectloc.localization.score_weights import ScoreWeights
from defectloc.localization.scores import top_k_mean
from tests.deployment.running import RUNTIMES, noise, results, tensor

DECISION = Decision(
    "fusion",
    ScoreWeights(0.4, 0.7, -1.2, ""),
    Calibration(1.5, -0.3, 0.3),
    0.02,
    Limit(0.5, 0.0),
    Limit(0.5, 0.0),
    "",
)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("prevalence", [None, 0.02])
@pytest.mark.parametrize("of_class", [0.0, 0.7])
def test_scores_and_probabilities(runtime, prevalence, of_class):
    random = np.random.default_rng(0)
    maps, log_odds = random.normal(2, 2, (4, 3, 5)).astype(np.float32), random.normal(0, 3, 4).astype(np.float32)
    decision = replace(DECISION, prevalence=prevalence, weights=ScoreWeights(0.4, of_class, -1.2, ""))
    graph = Graph()
    highest = verdict.top_k_mean(graph, tensor(graph, maps))
    score = verdict.score(graph, decision, highest, tensor(graph, log_odds), "score")
    graph.add("Identity", verdict.probability(graph, decision, score), name="probability")
    found = results(graph, {"score": "FLOAT1", "probability": "FLOAT1"}, noise(4, 4, 4), runtime)
    wanted = decision.apply(pd.DataFrame({"map_score": top_k_mean(maps), "log_odds": log_odds}))
    np.testing.assert_allclose(found["score"], wanted["score"], atol=1e-5)
    np.testing.assert_allclose(found["probability"], wanted["probability"], atol=1e-6)


def test_maps_of_few_cells_are_averaged_whole():
    graph, maps = Graph(), np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    graph.add("Identity", verdict.top_k_mean(graph, tensor(graph, maps)), name="mean")
    found = results(graph, {"mean": "FLOAT1"}, noise(2, 4, 4), "onnxruntime")["mean"]
    np.testing.assert_allclose(found, top_k_mean(maps))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("method", "threshold"), [("none", 1.0), ("good", 2.0), ("minmax", 0.8), ("max", 0.5), ("ivr", 0.3), ("max", 0.0)]
)
def test_maps_are_normalised_cut_and_shown(runtime, method, threshold):
    maps = np.random.default_rng(0).normal(0, 2, (4, 7, 9)).astype(np.float32)
    # Flat, and with nothing above 0.
    maps[2], maps[3] = 1.5, -np.abs(maps[3])
    localizer = Localizer(method, threshold, "", "components", scale=Scale(0.3, 1.7))
    graph = Graph()
    scaled = verdict.normalized(graph, localizer, tensor(graph, maps))
    graph.add("Identity", scaled, name="normalized")
    judged = graph.add("Greater", tensor(graph, np.array([1.0, 1.0, 1.0, 0.0])), graph.constant(0.5))
    verdict.mask(graph, localizer, scaled, judged, "mask")
    verdict.shown(graph, localizer, scaled, 4.0, "shown")
    values = {"normalized": "FLOAT3", "mask": "BOOL4", "shown": "FLOAT4"}
    found = results(graph, values, noise(4, 4, 4), runtime)
    wanted = np.stack([localizer.normalized(each) for each in maps])
    np.testing.assert_allclose(found["normalized"], wanted, atol=1e-5)
    assert found["mask"].shape == found["shown"].shape == (4, 1, 7, 9)
    clear = np.abs(wanted - threshold) > 1e-4
    above = wanted > threshold
    above[3] = False
    assert (found["mask"][:, 0][clear] == above[clear]).all()
    shown = found["shown"][:, 0]
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert ((shown > 0.5) == (wanted > threshold))[clear].all()
    order = np.argsort(wanted[0], axis=None)
    assert (np.diff(shown[0].ravel()[order]) >= -1e-6).all()
