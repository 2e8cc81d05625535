"""The sliders in a browser: moved there, they say what `count` and `plan` say."""

from dataclasses import replace

import pytest
from recordings import recorded
from sliders import OWN, drawn, said, specification

from minigpt import load
from minigpt.models.architectures import PRESETS
from minigpt.views.page import page as about

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """The page about a run of a model whose name and sizes are another's, opened from disk."""
    file = tmp_path_factory.mktemp("page") / "sliders.html"
    _, run = recorded(load(), ["To be"], file.with_suffix(".jsonl"), max_new_tokens=2)
    header = run.header | {"model": OWN, "config": PRESETS[OWN].values(), "dtype": "bfloat16"}
    file.write_text(about(replace(run, header=header | {"context": 2048})), encoding="utf-8")
    browser.get(file.as_uri())
    return browser


def moved(page, chosen):
    """The inputs moved to these values, each event as a hand on it gives."""
    from selenium.webdriver.support.ui import Select

    for name, value in chosen.items():
        element = page.find_element("css selector", f"#what-if [name={name}]")
        if element.tag_name == "select":
            Select(element).select_by_visible_text(str(value))
        else:
            page.execute_script(
                "arguments[0].value = arguments[1];"
                "arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
                element,
                value,
            )
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def shown(page):
    """The numbers in the DOM by their names."""
    marks = page.execute_script(
        "return [...document.querySelectorAll('#what-if svg text[aria-label]')]"
        ".map(mark => [mark.getAttribute('aria-label'), mark.textContent])"
    )
    found = {}
    for label, text in marks:
        name, _, value = label.partition(": ")
        if value == text:
            found[name] = text
    return found


@pytest.mark.parametrize("seed", range(100, 110))
def test_moved_sliders_say_what_count_and_plan_say(page, seed):
    chosen = drawn(seed, specification())
    moved(page, chosen)
    assert shown(page) == said(chosen), chosen


def test_the_browser_has_nothing_to_complain_of(page):
    assert page.get_log("browser") == []
