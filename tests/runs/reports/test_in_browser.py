"""The report in headless Chromium: nothing is requested or complained about, slider, filters and keys work."""

import shutil

import pandas as pd
import pytest

from defectloc.files import write_json
from defectloc.runs.directory import METRICS
from defectloc.runs.reports.one_run import write_report
from tests.handmade import five_images, localized, post_process, write_run
from tests.runs.reports.test_one_run import HARD_NAMES

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A run of images with hard names, its metrics and its page."""
    images = five_images()
    for image, name in zip(images, HARD_NAMES, strict=False):
        image["path"] = name
    run = write_run(tmp_path_factory.mktemp("run"), images)
    metrics = post_process(run, decision={"threshold": 0.2271})
    write_json(run.folder / METRICS, metrics)
    return run, metrics, write_report(run, run.data_root(None))


@pytest.fixture
def opened(browser, reported):
    """Open the page at a width; afterwards no message, no error and no request may have come of it."""
    complaints, requests = [], []

    def start(width=1200, **options):
        page = browser.new_page(viewport={"width": width, "height": 800}, **options)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(reported[2].as_uri())
        page.wait_for_load_state("networkidle")
        return page

    yield start
    assert complaints == []
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in requests) == 1


def confusion(page):
    return {key: int(page.locator(f".confusion [data-shows={key}]").inner_text()) for key in ("tp", "fn", "fp", "tn")}


def visible_names(page):
    cards = page.locator("#cards .card:visible")
    return [cards.nth(number).get_attribute("data-name") for number in range(cards.count())]


def set_slider(page, place):
    page.locator("#threshold").evaluate("(e, at) => { e.value = at; e.dispatchEvent(new Event('input')); }", place)


def visible_boxes(page, name):
    return page.evaluate(
        "(name) => { const card = [...document.querySelectorAll('#cards .card')].find((c) => c.dataset.name === name);"
        " return [...card.querySelectorAll('rect')].filter((r) => getComputedStyle(r).display !== 'none').length; }",
        name,
    )


def test_the_own_threshold_shows_what_localize_wrote(opened, reported):
    run, metrics, _ = reported
    page = opened()
    assert confusion(page) == metrics["confusion"]
    assert page.locator("[data-shows=balanced_accuracy]").inner_text() == f"{metrics['balanced_accuracy']:.3f}"
    folder = localized(run, metrics)
    decided = pd.read_csv(folder / "predictions.csv").query("split == 'test'")
    boxes = pd.read_csv(folder / "boxes.csv")["path"].value_counts()
    for row in decided.itertuples():
        assert visible_boxes(page, row.path) == boxes.get(row.path, 0)


@pytest.mark.parametrize("place", [1, 60, 99])
def test_another_threshold_shows_what_localize_gives_there(opened, reported, place):
    run, _, _ = reported
    page = opened()
    set_slider(page, place)
    metrics = post_process(run, decision={"threshold": place / 100})
    assert confusion(page) == metrics["confusion"]
    for key in ("balanced_accuracy", "accuracy", "box_f1_30"):
        assert page.locator(f"[data-shows={key}]").inner_text() == f"{metrics[key]:.3f}"
    boxes = pd.read_csv(localized(run, metrics) / "boxes.csv")["path"].value_counts()
    for name in visible_names(page):
        assert visible_boxes(page, name) == boxes.get(name, 0)
    page.locator("#reset").click()
    assert confusion(page) == reported[1]["confusion"]


def test_at_the_ends_all_are_rejected_and_none(opened):
    page = opened()
    set_slider(page, 0)
    assert confusion(page) == {"tp": 3, "fn": 0, "fp": 1, "tn": 0}
    page.locator("#threshold").focus()
    page.keyboard.press("End")
    assert confusion(page) == {"tp": 0, "fn": 3, "fp": 0, "tn": 1}
    assert page.locator("#cards rect:visible").count() == 0
    page.keyboard.press("ArrowLeft")
    assert page.locator("[data-shows=threshold]").first.inner_text() == "0.99"


def test_filters_by_outcome_type_and_name(opened):
    page = opened()
    everything = visible_names(page)
    assert len(everything) == 4
    page.get_by_label("missed").check()
    missed = visible_names(page)
    assert missed == [HARD_NAMES[2]]
    # A filter follows the slider.
    set_slider(page, 0)
    assert visible_names(page) == []
    assert page.locator("#none").is_visible()
    page.get_by_label("all", exact=True).check()
    page.locator("#name").fill("ДЕТАЛЬ")
    assert visible_names(page) == [HARD_NAMES[2]]
    page.locator("#name").fill("<script>")
    assert visible_names(page) == [HARD_NAMES[0]]
    page.locator("#name").fill("")
    page.locator("#type").select_option(label="good")
    assert visible_names(page) == [HARD_NAMES[3]]
    page.locator("#type").select_option(label="scratch")
    assert len(visible_names(page)) == 3


def test_keys_turn_the_pages_of_the_large_view(opened):
    page = opened()
    names = visible_names(page)
    page.locator("#cards .enlarge").first.focus()
    page.keyboard.press("Enter")
    large = page.locator("#enlarged .card")
    assert large.get_attribute("data-name") == names[0]
    seen = []
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        seen.append(large.get_attribute("data-name"))
    assert seen == [*names[1:], names[-1], names[-1]]
    page.keyboard.press("ArrowLeft")
    assert large.get_attribute("data-name") == names[-2]
    page.locator("#previous").click()
    page.keyboard.press("Home")
    assert large.get_attribute("data-name") == names[0]
    assert page.locator("#place").inner_text() == "1 of 4"
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()
    assert page.evaluate("document.activeElement.closest('.card').dataset.name") == names[0]


def test_opacity_boxes_and_outlines_can_be_changed(opened):
    page = opened()
    heat = page.locator("#cards .heat").first
    page.locator("#opacity").fill("20")
    assert heat.evaluate("e => getComputedStyle(e).opacity") == "0.2"
    assert page.locator("#cards .truth:visible").count() == 3
    page.locator("label:has(#truth)").click()
    page.locator("label:has(#boxes)").click()
    assert page.locator("#cards .truth:visible").count() == 0
    assert page.locator("#cards rect:visible").count() == 0


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}])
def test_a_phone_of_360_pixels_needs_no_scrolling_sideways(opened, options):
    page = opened(360, **options)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#cards .enlarge").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = page.locator("#large").bounding_box()
    assert box["width"] <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(opened, scheme):
    page = opened(color_scheme=scheme)
    low = page.evaluate(
        """() => {
          const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
          const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.03928 ? v / 12.92
            : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
          const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
            if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
          const found = [];
          for (const e of document.querySelectorAll('p, span, b, td, th, label, h1, h2, button, a, li, small')) {
            const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
            if (!own || !e.checkVisibility() || e.disabled) continue;
            const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
            if ((a + 0.05) / (b + 0.05) < 4.5) found.push(e.outerHTML.slice(0, 120));
          }
          return found;
        }"""
    )
    assert low == []


def test_pictures_have_words_and_controls_have_labels(opened):
    page = opened()
    assert page.locator("img:not([alt])").count() == 0
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, button')].filter((e) => !(e.labels?.length || e.ariaLabel"
        " || e.textContent.trim())).map((e) => e.id)"
    )
    assert unnamed == []
    assert page.evaluate("[...document.querySelectorAll('svg')].every((e) => e.ariaLabel || e.ariaHidden)")
    broken = page.evaluate("[...document.images].filter((e) => !e.naturalWidth).map((e) => e.alt)")
    assert broken == []


def test_print_shows_all_photographs_and_no_controls(opened):
    page = opened()
    page.emulate_media(media="print")
    assert page.locator(".filters").is_hidden()
    assert page.locator("#threshold").is_hidden()
    assert page.locator("#cards .card:visible").count() == 4
    assert len(page.pdf()) > 10_000


def test_without_scripts_the_own_threshold_is_shown(browser, reported):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(reported[2].as_uri())
    assert confusion(page) == reported[1]["confusion"]
    assert page.locator("#cards .card").count() == 4
    context.close()
