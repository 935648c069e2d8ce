"""The table of one run."""

from types import SimpleNamespace

import pytest

from defectloc.reporting.tables import print_metrics, print_scores

DECISION = SimpleNamespace(
    threshold=SimpleNamespace(probability=0.31), defective_above=SimpleNamespace(probability=0.62)
)


def metrics(**more):
    return {
        "subset": "part",
        "fold": 0,
        "n_test": 9,
        "balanced_accuracy": 0.75,
        "auroc": 0.9,
        "pixel_auroc": None,
        "intervals_95": {"balanced_accuracy": [0.5, 0.9], "auroc": None},
        "confusion": {"tp": 2, "fn": 1, "fp": 2, "tn": 4},
        "by_defect_type": [
            {"defect_type": "good", "label": 0, "n": 6, "correct": 4},
            {"defect_type": "crack", "label": 1, "n": 3, "correct": 2},
        ],
        "share_to_review": None,
        **more,
    }


def shortcut(share, n=8, bank_auroc=0.9):
    return {"n_found": n, "retained_share": share, "bank_auroc": bank_auroc}


@pytest.fixture
def printed(monkeypatch, capsys):
    def show(*arguments):
        monkeypatch.setenv("COLUMNS", "160")
        print_metrics(*arguments)
        return capsys.readouterr()

    return show


def test_counts_intervals_and_the_threshold_of_the_probability(printed):
    out, err = printed(metrics(), DECISION)
    lines = [" ".join(line.replace("│", " ").split()) for line in out.splitlines()]
    assert "balanced accuracy 0.750 0.500 to 0.900" in lines
    assert "AUROC 0.900" in lines
    assert "defective, predicted defective 2 of 3 1 missed (escapes)" in lines
    assert "crack 2 of 3" in lines
    assert "good, predicted good 4 of 6 2 false alarms (overkill)" in lines
    assert "threshold of the probability 0.310" in lines
    assert "pixel AUROC" not in out
    assert "given this one fit" in out
    assert not err


def test_the_class_network_stands_beside(printed):
    out, _ = printed(metrics(class_network={"balanced_accuracy": 0.625, "auroc": None}))
    assert "balanced accuracy, class network" in out
    assert "0.625" in out
    assert "AUROC, class network" not in out
    assert "threshold of the probability" not in out


def test_images_for_a_human(printed):
    out, _ = printed(metrics(share_to_review=0.125), DECISION)
    assert "12.5%" in out
    assert "probability up to 0.620" in out


@pytest.mark.parametrize(("share", "warns"), [(0.25, True), (0.75, False)])
def test_a_shortcut_is_warned_of(printed, share, warns):
    out, err = printed(metrics(shortcut=shortcut(share)))
    assert f"{share:.0%} of 8" in out
    assert ("decides by a shortcut" in err) == warns


@pytest.mark.parametrize("bank_auroc", [0.5, None])
def test_a_bank_that_does_not_know_the_defects_warns_of_nothing(printed, bank_auroc):
    out, err = printed(metrics(shortcut=shortcut(0.25, bank_auroc=bank_auroc)))
    assert "memory bank too weak to tell" in out
    assert not err


def test_no_defect_predicted_leaves_the_shortcut_check_out(printed):
    out, err = printed(metrics(shortcut=shortcut(None, 0)))
    assert "shortcut" not in out + err


def test_without_intervals_nothing_is_said_of_them(capsys):
    print_scores("maps", {"pixel_auroc": 0.5})
    assert "intervals" not in capsys.readouterr().out
