"""The tables of the benchmark."""

import pandas as pd

from defectloc.reporting.speed import comparison, shown_comparison, shown_parts


def test_ratios_and_marks():
    seconds = {"case_study": [70.0, 7.0], "streaming": [30.0, 3.0], "stored": [10.0, 2.0]}
    rows = pd.DataFrame({"task": ["a", "b"], **seconds, "balanced_accuracy": ["0.9", None]})
    table = comparison(rows.assign(basis=["measured", "twice a"]).to_dict("records"))
    assert list(table["ratio_case_study"]) == [7.0, 3.5]
    assert list(table["ratio_streaming"]) == [3.0, 1.5]
    shown = shown_comparison(table)
    assert list(shown["with stored features"]) == ["10.0 s", "~ 2.0 s"]
    assert list(shown["balanced accuracy"]) == ["0.9", "–"]


def test_numbers_come_with_their_units():
    parts = pd.DataFrame(
        {"part": ["p"] * 3, "figure": ["f"] * 3, "value": [0.0, 1234567.0, 0.01234], "unit": ["", "B", "s"]}
    )
    assert list(shown_parts(parts.assign(basis="measured"))["value"]) == ["0", "1,234,567 B", "0.0123 s"]
