"""The page in a browser: opened from disk, without a network, in both themes, on a phone too."""

import pytest
from recordings import FAMILIES, drawn, recorded

from minigpt import load
from minigpt.planning.accelerators import GPUS
from minigpt.views.page import page

CHARTED = ("components", "memory", "cache", "roofline", "what-if", "formulas")
WIDTHS = {"phone": 390, "desktop": 1280}
GPU = GPUS["rtx-3060-12gb"]
CPU = GPU._replace(name="CPU", flops={"float32/float32": 6e10}, bandwidth=3e10, measured=True)

# Boxes of the texts of each chart that can be seen: what they say, left, top, right, bottom.
TEXTS = """
return [...document.querySelectorAll('.chart')].map(chart =>
  [...chart.querySelectorAll('svg text')]
    .filter(text => text.textContent.trim() && getComputedStyle(text).opacity > 0)
    .map(text => [text, text.getBoundingClientRect()])
    .filter(([text, box]) => box.width > 0)
    .map(([text, box]) => [text.textContent, box.left, box.top, box.right, box.bottom]))
"""

pytestmark = pytest.mark.once


def written(lm, prompts, file, **options):
    """The page about a run."""
    _, run = recorded(lm, prompts, file.with_suffix(".jsonl"), **options)
    file.write_text(page(run, GPU, CPU), encoding="utf-8")
    return file


@pytest.fixture(scope="module", params=["tokens", "operations"])
def file(request, tmp_path_factory):
    """The page about 64 tokens of the shipped model."""
    file = tmp_path_factory.mktemp("page") / f"{request.param}.html"
    ops = request.param == "operations"
    return written(load(), ["To be, or not to be"], file, ops=ops, max_new_tokens=64)


@pytest.fixture(params=[(width, theme) for width in WIDTHS for theme in ("light", "dark")], ids=str)
def opened(request, browser, file):
    """The page in a window of a width and a theme, with all charts drawn."""
    show(browser, file, *request.param)
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def show(browser, file, width, theme):
    """Opens a page, and waits until all charts are drawn."""
    from selenium.webdriver.support.wait import WebDriverWait

    window = {"width": WIDTHS[width], "height": 900, "deviceScaleFactor": 1}
    window["mobile"] = width == "phone"
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("browser")
    browser.get(file.as_uri())

    def all_are(driver):
        return driver.execute_script(
            "return [...document.querySelectorAll('.chart')].every(c => c.querySelector('svg'))"
        )

    WebDriverWait(browser, 20).until(all_are)


def test_it_is_drawn_whole_and_apart(opened, file):
    found = marked(opened)
    assert [*dict.fromkeys(found)] == [*CHARTED]
    assert found.count("memory") == {"tokens": 1, "operations": 3}[file.stem]
    assert len(opened.find_elements("css selector", ".t")) == 7 + 64
    assert_apart(opened)


@pytest.mark.parametrize("seed", range(len(FAMILIES)))
def test_runs_of_other_models_are_drawn_whole_and_apart(seed, browser, tmp_path):
    lm, prompts, new = drawn(seed, tmp_path)
    ops = bool(seed % 2)
    file = written(lm, prompts, tmp_path / "run.html", ops=ops, max_new_tokens=new)
    show(browser, file, "phone", "dark")
    marked(browser)
    assert_apart(browser)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_of_one_token_is_drawn_whole_and_apart(width, browser, tmp_path):
    file = written(load(), ["To be"], tmp_path / "one.html", ops=True, max_new_tokens=1)
    show(browser, file, width, "light")
    assert "memory" in marked(browser)
    assert_apart(browser)


def marked(opened):
    """The panel of each chart; all have marks, nothing was fetched or complained of."""
    assert opened.get_log("browser") == []
    assert opened.execute_script("return performance.getEntriesByType('resource').length") == 0
    charts = opened.execute_script(
        "return [...document.querySelectorAll('.chart')].map(chart => ["
        "chart.closest('section').id, chart.querySelectorAll('svg .role-mark path, .role-mark line,"
        " .role-mark rect').length])"
    )
    assert all(marks > 0 for _, marks in charts)
    return [panel for panel, _ in charts]


def assert_apart(opened):
    """Nothing is wider than the window, and no text of a chart lies on another or is cut off."""
    width = opened.execute_script("return document.documentElement.clientWidth")
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    for texts in opened.execute_script(TEXTS):
        assert len(texts) > 4
        for one in texts:
            assert 0 <= one[1] <= one[3] <= width, one
        for i, one in enumerate(texts):
            for other in texts[:i]:
                assert not overlap(one, other), (one, other)


def overlap(one, other):
    """Whether two boxes of text lie on one another, by more than a pixel of their edges."""
    across = min(one[3], other[3]) - max(one[1], other[1])
    down = min(one[4], other[4]) - max(one[2], other[2])
    return across > 1 and down > 1


def test_boxes_that_lie_on_one_another_are_told_from_those_that_do_not():
    box = ["a", 10, 10, 50, 24]
    assert overlap(box, ["b", 40, 20, 90, 34])
    assert not overlap(box, ["b", 50, 10, 90, 24])
    assert not overlap(box, ["b", 10, 24, 50, 38])


def test_ink_is_read_on_its_paper(opened):
    """By the contrast that WCAG 2 asks for: 4.5 for text."""
    colours = opened.execute_script(
        "const of = (e, p) => getComputedStyle(e)[p];"
        "const paper = of(document.body, 'backgroundColor');"
        "return [...document.querySelectorAll('h1, .lead, a, summary, dt, small, svg text')]"
        ".map(e => [of(e, e.closest('svg') ? 'fill' : 'color'), paper])"
    )
    assert len(colours) > 50
    assert min(contrast(*pair) for pair in {tuple(pair) for pair in colours}) >= 4.5


def contrast(one, other):
    """The ratio of two colours, each `rgb(r, g, b)`."""

    def light(colour):
        parts = [float(part) / 255 for part in colour[4:-1].split(",")]
        parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(
            weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
        )

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert round(contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)"), 6) == 21
    assert round(contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)"), 2) == 4.48


def test_a_token_tells_its_record_to_the_keyboard(opened):
    token = opened.find_elements("css selector", ".t")[20]
    opened.execute_script("arguments[0].focus()", token)
    said = opened.execute_script("return getComputedStyle(arguments[0], '::after').content", token)
    assert "FLOP" in said
    assert " keys" in said


@pytest.mark.parametrize("cost", ["FLOP", "bytes", "seconds"])
def test_tokens_are_shaded_by_what_is_chosen(opened, cost):
    opened.find_element("css selector", f"input[value={cost}]").click()
    shades = opened.execute_script(
        "return [...document.querySelectorAll('.t')].map(t => {"
        "const s = getComputedStyle(t);"
        "return [s.getPropertyValue('--c'), s.getPropertyValue('--' + arguments[0])]})",
        cost,
    )
    assert all(shade == told for shade, told in shades)
    assert {shade for shade, _ in shades} > {"0.000", "1.000"}
    scales = opened.find_elements("css selector", ".scale")
    assert [one.get_attribute("data-cost") for one in scales if one.is_displayed()] == [cost]


def test_without_javascript_the_tables_remain(browser, file):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(file.as_uri())
        [told] = browser.find_elements("css selector", "noscript p")
        assert "the tables under each heading hold the same numbers" in told.text
        assert len(browser.find_elements("css selector", "section table")) >= 6
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
