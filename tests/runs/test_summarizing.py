"""Runs below `outputs`, grouped by setting."""

import json
import shutil

import pandas as pd
import pytest

from defectloc.config import SummarizeSettings
from defectloc.errors import DefectlocError
from defectloc.runs.directory import FORMAT
from defectloc.runs.summarizing import collect, experiments, run

FIT = {
    "experiment": None,
    "seed": 0,
    "data": {"name": "mvtec", "image_size": 224, "split": "kfold", "validation": 0.15},
    "model": {"name": "vgg16", "weights": "imagenet"},
    "training": {"epochs": 10},
    "augmentation": {"name": "none"},
    # Those of a run's record are of whatever it was fitted with first.
    "memory": {"dims": 1},
}
CASE_STUDY = {"normalization": "minmax", "threshold_from": "fixed", "boxes": "single", "min_area": 0, "min_peak": None}


def write_result(outputs, name, *, subset="part", fold=0, fingerprint="abc", fit=None, threshold=0.8, dims=128):
    """Write one localization of one run by hand; each fold tests its own two images."""
    folder = outputs / subset / f"fold{fold}-{fingerprint}"
    target = folder / "localization" / name
    target.mkdir(parents=True, exist_ok=True)
    record = {"format": FORMAT, "fingerprint": fingerprint, "subset": subset, "fold": fold, "image_size": 224}
    record["settings"] = FIT | (fit or {})
    (folder / "run.json").write_text(json.dumps(record))
    metrics = {
        "subset": subset,
        "fold": fold,
        "n_test": 2,
        "localization": name,
        "maps": {"cam": "cam-0000"},
        "balanced_accuracy": 0.5 + 0.25 * fold,
        "box_f1_30": threshold / 2,
        "box_f1_50": threshold / 4,
        "box_accuracy_30": None,
        "false_boxes_per_good_image": 0.0,
        "confusion": {"tp": 1, "fn": fold, "fp": 0, "tn": 1},
        "validation": {"balanced_accuracy": 0.75},
    }
    (target / "metrics.json").write_text(json.dumps(metrics))
    localization = CASE_STUDY | {"map": "cam", "threshold": threshold, "max_boxes": None, "merge_distance": 0.0}
    config = {"localization": localization, "maps": {"memory": {"version": 1, "dims": dims}}}
    config["decision"] = {"score": "class", "threshold": 0.5, "threshold_from": "fixed", "calibrate": False}
    (target / "config.yaml").write_text(json.dumps(config))
    names = [f"f{fold}/{n}.png" for n in (0, 1)]
    images = [{"id": n, "file_name": each, "height": 10, "width": 10} for n, each in enumerate(names, start=1)]
    annotations = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]
    (target / "boxes.coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return target


@pytest.fixture
def outputs(tmp_path):
    """Two folds, each at two thresholds."""
    folder = tmp_path / "outputs"
    for fold in (0, 1):
        for threshold in (0.3, 0.6):
            write_result(folder, f"cam-{threshold:g}", fold=fold, threshold=threshold)
    return folder


def summarized(outputs):
    run(SummarizeSettings(outputs=str(outputs)))
    return pd.read_csv(outputs / "summary.csv")


def test_folds_of_one_setting_are_one_row(outputs, capsys):
    table = summarized(outputs)
    assert list(table["n_folds"]) == [2, 2]
    assert list(table["threshold"]) == [0.3, 0.6]
    assert list(table["balanced_accuracy"]) == [0.625, 0.625]
    assert (table[["tp", "fn", "fp", "tn"]].to_numpy() == [2, 1, 0, 2]).all()
    assert "±" in (outputs / "summary.md").read_text()
    out = capsys.readouterr().out
    (figure,) = (outputs / "part").glob("thresholds-abc-*.png")
    assert figure.stat().st_size > 1000
    assert str(figure) in out


def test_what_was_chosen_on_validation_images_has_its_footnote(outputs, capsys):
    summarized(outputs)
    sentence = "Validation images of one fold are test images of another"
    assert sentence in (outputs / "summary.md").read_text()
    assert sentence in " ".join(capsys.readouterr().out.split())


def test_settings_of_the_memory_bank_are_not_averaged(tmp_path):
    write_result(tmp_path, "cam-1", fold=0, dims=128)
    write_result(tmp_path, "cam-2", fold=1, dims=64)
    table = summarized(tmp_path)
    assert list(table["n_folds"]) == [1, 1]
    assert [label.rpartition(", ")[2] for label in table["setting"]] == ["memory dims 128", "memory dims 64"]
    # One threshold each: no sweep, though there are two rows.
    assert not list(tmp_path.glob("part/*.png"))


def test_a_label_shows_the_settings_of_the_localization_not_those_of_the_first_one_of_its_run(tmp_path):
    """Another fit was first asked for other dimensions, masks, annotations and places."""
    other = {"seed": 1, "memory": {"dims": 2}, "supervision": {"masks": 9}}
    other["data"] = FIT["data"] | {"ignore_mask": "edge.png", "masks": "elsewhere", "annotations": "boxes.json"}
    write_result(tmp_path, "memory-1", dims=128)
    write_result(tmp_path, "memory-1", dims=128, fingerprint="def", fit=other)
    assert [label.rpartition("single), ")[2] for label in summarized(tmp_path)["setting"]] == ["seed 0", "seed 1"]


def test_a_sweep_is_of_one_setting(tmp_path):
    for dims in (64, 128):
        for threshold in (0.3, 0.6):
            write_result(tmp_path, f"cam-{dims}-{threshold:g}", threshold=threshold, dims=dims)
    summarized(tmp_path)
    assert len(list(tmp_path.glob("part/thresholds-abc-*.png"))) == 2


@pytest.mark.parametrize(
    ("fit", "name"),
    [
        ({"seed": 1}, "seed 1"),
        ({"training": {"epochs": 1}}, "epochs 1"),
        ({"model": {"name": "vgg16", "weights": "none"}}, "weights none"),
        ({}, "fit def"),
    ],
)
def test_fits_that_differ_have_labels_that_differ(tmp_path, fit, name):
    write_result(tmp_path, "cam-1")
    write_result(tmp_path, "cam-1", fingerprint="def", fit=fit)
    labels = summarized(tmp_path)["setting"]
    assert labels.is_unique
    assert labels.str.endswith(f", {name}").sum() == 1


def test_an_experiment_with_another_value_is_not_called_so(tmp_path):
    values = experiments()["case_study"]
    assert {"training.epochs", "localization.threshold", "model.name", "augmentation.name"} <= values.keys()
    fit = {"experiment": "case_study"}
    for key, value in values.items():
        section, _, leaf = key.partition(".")
        if section not in ("localization", "decision"):
            fit[section] = {**FIT.get(section, {}), **fit.get(section, {}), leaf: value}
    write_result(tmp_path, "cam-1", fit=fit)
    assert list(summarized(tmp_path)["setting"]) == ["case_study"]
    write_result(tmp_path, "cam-1", fit=fit | {"training": fit["training"] | {"epochs": 1}})
    (label,) = summarized(tmp_path)["setting"]
    assert "case_study" not in label
    assert label.endswith(", epochs 1")


def test_the_published_row_stands_beside(tmp_path):
    write_result(tmp_path, "cam-1", subset="pill")
    write_result(tmp_path, "cam-1")
    # A data set of one's own with a category of that name.
    write_result(tmp_path, "cam-1", subset="cable", fit={"data": FIT["data"] | {"name": "folder"}})
    table = summarized(tmp_path).set_index("subset")
    assert pd.isna(table.loc["cable", "published_balanced_accuracy"])
    assert table.loc["pill", "published_balanced_accuracy"] == 0.817
    assert pd.isna(table.loc["part", "published_balanced_accuracy"])


def test_pooled_boxes_name_each_image_once(outputs):
    coco = pytest.importorskip("pycocotools.coco")
    # Folds that share a test image: the first one counts.
    path = outputs / "part" / "fold1-abc" / "localization" / "cam-0.3" / "boxes.coco.json"
    path.write_text(path.read_text().replace("f1/0.png", "f0/0.png"))
    summarized(outputs)
    files = sorted((outputs / "part" / "boxes").glob("*.json"))
    assert [file.name for file in files] == ["abc-cam-0.3.coco.json", "abc-cam-0.6.coco.json"]
    loaded = coco.COCO(files[0])
    assert [image["file_name"] for image in loaded.dataset["images"]] == ["f0/0.png", "f0/1.png", "f1/1.png"]
    assert [annotation["bbox"] for annotation in loaded.dataset["annotations"]] == [[1, 2, 3, 4]]
    assert len(coco.COCO(files[1]).dataset["annotations"]) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"fold": "x"}', "\udcff", '{"confusion": 3}'])
@pytest.mark.parametrize("name", ["run.json", "metrics.json", "config.yaml", "boxes.coco.json"])
def test_a_damaged_file_is_skipped_by_name(outputs, capsys, name, content):
    folder = outputs / "part" / "fold1-abc"
    path = folder / name if name == "run.json" else folder / "localization" / "cam-0.3" / name
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    table = summarized(outputs)
    err = capsys.readouterr().err
    # The settings of a localization that cannot be read are those of `metrics.json` beside.
    assert f"skipped: {path.parent / 'metrics.json' if name == 'config.yaml' else path}" in err
    assert "Traceback" not in err
    expected = {"run.json": [1, 1], "boxes.coco.json": [2, 2]}
    assert list(table["n_folds"]) == expected.get(name, [1, 2])


@pytest.mark.parametrize("copy", ["part_backup/fold1-abc", "part/fold1-abc.bak", "part/fold2-abc"])
def test_a_copy_of_a_run_is_skipped_by_name(outputs, capsys, copy):
    before = summarized(outputs)
    shutil.copytree(outputs / "part" / "fold1-abc", outputs / copy)
    pd.testing.assert_frame_equal(summarized(outputs), before)
    assert f"skipped: {outputs / copy} (a copy of part/fold1-abc, or renamed)" in capsys.readouterr().err


def test_another_version_is_skipped_by_name(outputs, capsys):
    record = outputs / "part" / "fold1-abc" / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 99}))
    assert {result.metrics["fold"] for result in collect(outputs)} == {0}
    assert "fold1-abc" in capsys.readouterr().err


def test_a_run_without_localizations_is_none(outputs):
    shutil.rmtree(outputs / "part" / "fold0-abc" / "localization")
    assert {result.metrics["fold"] for result in collect(outputs)} == {1}


def test_nothing_there(tmp_path):
    with pytest.raises(DefectlocError, match="holds no finished run"):
        run(SummarizeSettings(outputs=str(tmp_path / "nowhere")))


def test_deep_brackets_are_skipped_by_name(outputs, capsys):
    path = outputs / "part" / "fold1-abc" / "localization" / "cam-0.3" / "metrics.json"
    path.write_text("[" * 100_000)
    assert list(summarized(outputs)["n_folds"]) == [1, 2]
    assert f"skipped: {path}" in capsys.readouterr().err


def test_a_localization_that_was_changed_is_skipped_by_name(outputs, capsys):
    path = outputs / "part" / "fold1-abc" / "localization" / "cam-0.3" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": {"config.yaml": "0" * 64}}))
    assert list(summarized(outputs)["n_folds"]) == [1, 2]
    assert f"skipped: {path} (config.yaml was changed since)" in capsys.readouterr().err
