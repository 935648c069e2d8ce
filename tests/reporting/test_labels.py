"""Labels of settings."""

import pytest

from defectloc.reporting.labels import flat, labels, parts

CASE_STUDY = {"model.name": "vgg16", "training.epochs": 10, "localization.map": "cam", "localization.threshold": 0.8}


def row(**more):
    nested = {
        "experiment": None,
        "seed": 0,
        "fold": 0,
        "data": {"image_size": 224, "validation": 0.15},
        "model": {"name": "vgg16", "weights": "imagenet"},
        "training": {"epochs": 10, "learning_rate": 1e-4},
        "memory": {"dims": 128, "levels": ["conv3_3.pool2", "conv4_3"]},
        "localization": {
            "map": "fusion",
            "normalization": "none",
            "threshold_from": "fixed",
            "threshold": 2.5,
            "boxes": "components",
            "min_peak": 5.0,
            "min_area": 0,
        },
        "decision": {"score": "fusion", "threshold": 0.5},
    }
    return flat(nested) | {key.replace("__", "."): value for key, value in more.items()}


PLAIN = "vgg16 224 px, fusion map (threshold 2.5, min peak 5, boxes components), decision by fusion"
STUDIED = {"experiment": "case_study", "localization__map": "cam", "localization__threshold": 0.8}


def of(*rows, groups=None):
    return labels(rows, groups or ["part"] * len(rows), {"case_study": CASE_STUDY})


def test_one_setting_is_named_by_network_size_and_localization():
    assert of(row()) == [PLAIN]
    # Nothing of a run's place and pace tells settings apart.
    assert of(row(), row(fold=1, outputs="elsewhere", features__workers=9)) == [PLAIN] * 2


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("seed", 1, "seed 1"),
        ("training.epochs", 1, "epochs 1"),
        ("training.learning_rate", 1e-5, "learning rate 1e-05"),
        ("model.weights", "none", "weights none"),
        ("data.validation", 0.0, "validation 0"),
        ("data.limit", 100, "limit 100"),
        ("augmentation.name", "light", "augmentation light"),
        ("memory.dims", 64, "memory dims 64"),
        ("memory.levels", ["conv4_3"], "memory levels [conv4_3]"),
        ("localization.min_area", 9, "localization min area 9"),
        ("decision.calibrate", True, "decision calibrate true"),
    ],
)
def test_what_differs_is_shown(key, value, name):
    usual, other = of(row(), row() | {key: value})
    assert other == f"{PLAIN}, {name}"
    assert usual != other


def test_a_run_without_class_network_says_so():
    usual, without, other = of(row(), row(training__epochs=0), row(training__epochs=0, seed=1))
    assert usual == f"{PLAIN}, seed 0, epochs 10"
    assert without == f"{PLAIN}, seed 0".replace("224 px", "224 px without class network")
    assert other == f"{PLAIN}, seed 1".replace("224 px", "224 px without class network")


def test_the_input_is_that_of_the_photographs_aspect():
    wide, square, tiled = of(
        row(image_size=[224, 320]), row(image_size=224), row(image_size=[224, 320], data__tiles=448), groups=[*"abc"]
    )
    assert (wide, square) == (PLAIN.replace("224 px", "[224,320] px"), PLAIN)
    assert tiled == PLAIN
    # The same setting on other photographs, for example with another data.limit.
    assert of(row(image_size=[224, 320]), row(image_size=224)) == [wide, square]


def test_nearly_equal_numbers_have_labels_of_their_own():
    assert len(set(of(row(training__learning_rate=1.00000001e-4), row()))) == 2


def test_differences_count_within_a_subset_and_show_in_all():
    rows = row(), row(seed=1), row(seed=1)
    assert of(*rows, groups=["pill", "pill", "screw"]) == [f"{PLAIN}, seed {n}" for n in (0, 1, 1)]
    assert of(row(), row(seed=1), groups=["pill", "screw"]) == [PLAIN] * 2


def test_an_experiment_is_named_only_where_it_has_all_of_its_values():
    same, fewer, seeded = row(**STUDIED), row(**STUDIED, training__epochs=1), row(**STUDIED, seed=1)
    assert of(same) == ["case_study"]
    (label,) = of(fewer)
    assert "case_study" not in label
    assert label.endswith(", epochs 1")
    assert of(same, seeded) == ["case_study, seed 0", "case_study, seed 1"]
    assert of(row(experiment="case_study", model__name="resnet50"))[0].startswith("resnet50 224")


def test_a_threshold_that_is_chosen_is_named_by_its_choice():
    chosen = row(localization__threshold_from="validation", localization__min_peak=None)
    assert of(chosen) == ["vgg16 224 px, fusion map (threshold from validation, boxes components), decision by fusion"]
    # The fall-back value is a setting, too.
    assert of(chosen, chosen | {"localization.threshold": 3.0})[1].endswith("localization threshold 3")


def test_what_is_nothing_is_not_said():
    whole, tiled = row(data__tile_overlap=None, data__tiles="none"), row(data__tile_overlap=0.25, data__tiles=64)
    assert of(whole, tiled) == [f"{PLAIN}, tiles none", f"{PLAIN}, tile overlap 0.25, tiles 64"]


def test_a_fixed_threshold_of_the_decision_is_named_by_its_value():
    fixed, chosen = (row(decision__threshold_from=each) for each in ("fixed", "validation"))
    assert of(fixed, chosen) == [f"{PLAIN}, decision threshold 0.5", f"{PLAIN}, decision threshold from validation"]
    other = fixed | {"decision.threshold": 0.7}
    assert of(fixed, chosen, other)[2] == f"{PLAIN}, decision threshold 0.7"


def test_a_normalization_is_named_as_one():
    assert (
        "memory map (normalization good, threshold 2.5"
        in of(row(localization__map="memory", localization__normalization="good"))[0]
    )


def test_a_label_comes_apart_at_its_commas_but_for_those_in_brackets():
    label = of(row(memory__levels=["conv3_3", "conv4_3"]), row())[0]
    assert parts(label) == [
        "vgg16 224 px",
        "fusion map (threshold 2.5, min peak 5, boxes components)",
        "decision by fusion",
        "memory levels [conv3_3,conv4_3]",
    ]
    assert parts("a [1, 2], b") == ["a [1, 2]", "b"]
