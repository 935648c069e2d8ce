"""The report of a run: what it shows is what was scored."""

import json
import re
import shutil
from html.parser import HTMLParser

import markupsafe
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defectloc.errors import DefectlocError
from defectloc.files import write_json
from defectloc.reporting.page import key_of
from defectloc.runs.directory import METRICS, Run
from defectloc.runs.reports import one_run, photographs
from defectloc.runs.reports.one_run import write_report
from tests.conftest import FUSION, last_localization, write_image
from tests.handmade import five_images, localized, post_process, square, write_run

SCORES = ("recall", "specificity", "balanced_accuracy", "accuracy")
BOX_SCORES = ("box_f1_30", "box_f1_50", "box_accuracy_30", "false_boxes_per_good_image")
HARD_NAMES = (
    "bad/<script>alert(1)</script>.png",
    "bad/'\"><img src=x onerror=alert(1)>&amp;.png",
    "bad/деталь 部品 جزء {{ 7 * 7 }} {% raw %}.png",
    f"bad/{'n' * 196}.png",
)


class Page(HTMLParser):
    """The cards of a page with their boxes, and every address that it holds."""

    def __init__(self, text):
        super().__init__()
        self.cards, self.addresses, self.tags = [], [], set()
        self.points = json.loads(re.search(r'id="points">(.*?)</script>', text, re.DOTALL)[1])
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.add(tag)
        assert not [name for name in found if name.startswith("on")]
        self.addresses += [found[name] for name in ("src", "href") if name in found]
        if tag == "article":
            self.cards.append(found | {"boxes": []})
        elif tag == "rect":
            x, y, width, height = (int(found[name]) for name in ("x", "y", "width", "height"))
            self.cards[-1]["boxes"].append((x, y, x + width, y + height))


def written(run, **more):
    return write_report(run, run.data_root(None), **more).read_text(encoding="utf-8")


@pytest.fixture
def by_hand(tmp_path):
    """A run of five images of which four are test images, with the scores that it was asked for last."""

    def make(images=None, localization=None, decision=None, ignore_mask=None):
        run = write_run(tmp_path, images or five_images())
        metrics = post_process(run, localization, decision, ignore_mask)
        write_json(run.folder / METRICS, metrics)
        return run, metrics

    return make


def agrees(page, metrics):
    own = page.points["limits"][page.points["own"]]["scores"]
    assert own["confusion"] == metrics["confusion"]
    assert {name: own[name] for name in (*SCORES, *BOX_SCORES)} == {
        name: metrics[name] for name in (*SCORES, *BOX_SCORES)
    }


@pytest.mark.parametrize("threshold", [0.5, 0.2271, 0.999])
def test_the_slider_at_the_own_threshold_is_what_was_scored(by_hand, threshold):
    run, metrics = by_hand(decision={"threshold": threshold})
    agrees(Page(written(run)), metrics)


def test_a_verdict_has_its_probability_and_the_threshold_beside_it(by_hand):
    run, metrics = by_hand(decision={"threshold": 0.31})
    decided = pd.read_csv(localized(run, metrics) / "predictions.csv").query("split == 'test'")
    rows = zip(decided["path"], decided["verdict"], decided["probability"], strict=True)
    expected = {path: f"{verdict}, p = {probability:.3f} (threshold 0.310)" for path, verdict, probability in rows}
    assert {card["data-name"]: card["data-described"] for card in Page(written(run)).cards} == expected


def test_the_report_of_a_fit_agrees_with_its_metrics_and_boxes(fused):
    run = Run.open(fused)
    page, folder = Page(written(run)), last_localization(fused)
    agrees(page, json.loads((folder / "metrics.json").read_text()))
    decided = pd.read_csv(folder / "predictions.csv").query("split == 'test'").set_index("path")
    boxes = pd.read_csv(folder / "boxes.csv")
    assert {card["data-name"] for card in page.cards} == set(decided.index)
    own = page.points["own"]
    for card in page.cards:
        row = decided.loc[card["data-name"]]
        assert (int(card["data-limits"]) > own) == bool(row["predicted"])
        assert ("predicted" in card["class"].split()) == bool(row["predicted"])
        assert card["data-verdict"] == row["verdict"]
        if row["predicted"]:
            found = boxes[boxes["path"] == card["data-name"]][["x0", "y0", "x1", "y1"]]
            assert card["boxes"] == [tuple(each) for each in found.to_numpy()[: photographs.MOST_BOXES]]


def test_the_slider_at_each_threshold_is_what_localize_gives_there(by_hand):
    run, _ = by_hand()
    limits = Page(written(run)).points["limits"]
    for place in (1, 30, 70, 99):
        metrics = post_process(run, decision={"threshold": place / 100})
        scores = limits[place]["scores"]
        for name in (*SCORES, *BOX_SCORES, "confusion"):
            assert scores[name] == metrics[name], (place, name)


def test_the_most_wrong_come_first(by_hand):
    run, _ = by_hand()
    cards = Page(written(run)).cards
    outcomes = [card["data-outcome"] for card in cards]
    assert outcomes[0] == "missed"
    assert [card["data-label"] for card in cards].count("1") == 3
    wrong = [outcome in ("missed", "false-alarm") for outcome in outcomes]
    assert wrong == sorted(wrong, reverse=True)


def test_what_could_not_be_fitted_is_named(by_hand):
    run, _ = by_hand(localization={"normalization": "classes", "threshold": None})
    wanted = [*run.decision().messages, *run.localizer().messages]
    assert any("to scale the map by" in sentence for sentence in wanted)
    text = written(run)
    assert all(f"<b>Note.</b> {markupsafe.escape(sentence)}</p>" in text for sentence in wanted)


def test_nothing_is_loaded_from_anywhere(by_hand):
    run, _ = by_hand()
    text = written(run)
    page = Page(text)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not page.tags & {"iframe", "object", "embed", "base", "audio", "video"}
    assert not re.search(r"https?://", text)
    assert str(run.folder.parent) not in text


def test_names_of_any_kind_break_nothing(by_hand):
    images = five_images()
    for image, name in zip(images, HARD_NAMES, strict=False):
        image["path"] = name
    run, metrics = by_hand(images)
    text = written(run)
    page = Page(text)
    agrees(page, metrics)
    assert {card["data-name"] for card in page.cards} == {*HARD_NAMES}
    # The page's own, and the data that it looks up.
    assert text.count("<script") == 2
    for name in HARD_NAMES:
        assert f"<bdi>{markupsafe.escape(name)}</bdi>" in text


def test_the_report_is_left_as_it_is_until_another_setting_is_asked_for(by_hand):
    run, metrics = by_hand()
    path = write_report(run, run.data_root(None))
    assert key_of(path) == f"{localized(run, metrics).name} v{one_run.VERSION}"
    path.write_bytes(path.read_bytes() + b"<!-- mine -->")
    assert written(run, again=False).endswith("<!-- mine -->")
    assert not written(run).endswith("<!-- mine -->")
    write_json(run.folder / METRICS, post_process(run, decision={"threshold": 0.3}))
    written(run, again=False)
    assert key_of(path) != f"{localized(run, metrics).name} v{one_run.VERSION}"


def test_the_command_writes_the_page_and_finds_moved_data(by_hand, command, tmp_path):
    run, _ = by_hand()
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    assert "root=FOLDER" in command("report", f"run={run.folder}").sentence
    done = command("report", f"run={run.folder}", f"root={tmp_path / 'elsewhere'}")
    assert done.code == 0, done.err
    assert done.out.strip() == f"report: {run.folder / 'report.html'}"


def test_what_no_longer_fits_the_scores_is_refused(by_hand, command, tmp_path):
    run, _ = by_hand()
    mask = tmp_path / "data" / "masks" / "bad" / "0.png"
    shutil.copy(mask.with_name("1.png"), mask)
    assert "masks" in command("report", f"run={run.folder}").sentence
    assert not (run.folder / "report.html").exists()
    (run.folder / METRICS).unlink()
    assert "no scores yet" in command("report", f"run={run.folder}").sentence
    with pytest.raises(DefectlocError, match="no scores yet"):
        written(run)


def test_the_ignore_mask_is_that_of_the_scores_and_not_that_of_the_fit(by_hand, command, tmp_path):
    mask = tmp_path / "corner.png"
    Image.fromarray(np.where(square(0, 0, 2, 2), 255, 0).astype(np.uint8)).save(mask)
    run, metrics = by_hand(ignore_mask=str(mask))
    mask.unlink()
    done = command("report", f"run={run.folder}")
    assert done.code == 0, done.err
    page = Page((run.folder / "report.html").read_text(encoding="utf-8"))
    agrees(page, metrics)
    (ignored,) = (card["boxes"] for card in page.cards if card["data-name"] == "bad/0.png")
    assert (0, 0, 2, 2) not in ignored


def test_only_some_of_many_images_are_shown_and_all_are_counted(by_hand, monkeypatch):
    monkeypatch.setattr(photographs, "MOST_PHOTOGRAPHS", 2)
    run, metrics = by_hand()
    page = Page(written(run))
    agrees(page, metrics)
    assert len(page.cards) == 2
    assert f"2 of {metrics['n_test']} are shown" in written(run)


def test_a_run_without_masks_has_no_outlines_and_no_box_scores(by_hand):
    images = [{name: value for name, value in image.items() if name != "mask"} for image in five_images()]
    run, metrics = by_hand(images)
    text = written(run)
    agrees(Page(text), metrics)
    assert "outlines" not in text
    assert 'class="truth"' not in text


def test_a_run_without_any_defect_to_learn_from_has_a_report(alone):
    text = written(Run.open(alone))
    assert "no training curves" in text
    agrees(Page(text), json.loads((last_localization(alone) / "metrics.json").read_text()))


def test_heat_maps_have_one_scale(by_hand, monkeypatch):
    scales = set()
    original = photographs.heat_map_uri
    monkeypatch.setattr(
        photographs, "heat_map_uri", lambda values, scale: (scales.add(scale), original(values, scale))[1]
    )
    run, _ = by_hand()
    written(run)
    ((low, high),) = scales
    assert low < high
    assert np.isfinite([low, high]).all()


def test_photographs_that_were_changed_are_noted(by_hand, capsys):
    run, _ = by_hand()
    written(run)
    assert "note" not in capsys.readouterr().err
    changed = run.data_root(None) / "bad" / "1.png"
    write_image(changed, size=10)
    written(run)
    sentence = f"note: changed since the fit: 1 of 4 test photographs, such as {changed}; the report shows them"
    assert sentence in capsys.readouterr().err


def test_train_writes_the_report_with_its_figures(fused, command):
    done = command("train", *FUSION, "figures=true")
    assert done.code == 0, done.err
    assert f"report: {fused / 'report.html'}" in done.out
    text = (fused / "report.html").read_text(encoding="utf-8")
    assert 'alt="The photographs that lose most' in text or "shortcut.png" not in str(list(fused.rglob("*.png")))
