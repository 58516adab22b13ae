"""The page in a real browser: no console errors, nothing loaded, operated by keyboard, fits a phone, prints."""

import pytest

from chromium import check_page
from recorded_runs import write_run
from report_runs import full_run
from tasc.report import Report, render, write_report

PARTS = "table, figure, .card, .steps, .facts"
LONG = "a-very-long-word-without-a-break-" * 8
AT = "document.querySelector('.steps .pass:not(.off) .what').textContent"
SHOWN = "Array.from(document.querySelectorAll('.steps .pass')).filter(p => getComputedStyle(p).visibility === 'visible').length"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two runs with hostile and with long text."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    hostile = full_run("<script>document.title='run'</script>", name="first")
    path.write_text(render(Report("two", (hostile, full_run(LONG, name=LONG)))), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_it_loads_without_errors_and_fits_the_width(browser, page, width, dark):
    check_page(browser, page, width=width, dark=dark, parts=PARTS)
    assert browser.evaluate("document.title") == "two - TASC report"


def test_every_text_has_contrast_in_both_schemes(browser, page):
    for dark in (False, True):
        browser.open(page, dark=dark)
        assert browser.low_contrast() == []


def test_the_steps_are_walked_with_the_keyboard(browser, page):
    browser.open(page)
    browser.evaluate("document.querySelector('.steps').focus()")
    places = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "Home", "ArrowLeft", "End", "Home"):
        browser.press(key)
        places.append(browser.evaluate(AT).split(":")[0])
        assert browser.evaluate("document.querySelector('.status').textContent").startswith(places[-1])
    assert places == [f"Pass {n} of 3" for n in (2, 3, 3, 2, 1, 1, 3, 1)]
    assert browser.errors == []


def test_the_steps_are_reached_and_walked_without_a_mouse(browser, page):
    browser.open(page)
    for _ in range(60):
        browser.press("Tab")
        if browser.evaluate("document.activeElement.dataset.go") == "on":
            break
    assert browser.evaluate(AT).startswith("Pass 1 of 3")
    browser.press("Enter")
    assert browser.evaluate(AT).startswith("Pass 2 of 3")
    assert browser.evaluate("document.activeElement.getAttribute('aria-label')") == "Next pass"


def test_other_keys_keep_their_meaning(browser, page):
    browser.open(page)
    prevented = "(k) => { const e = new KeyboardEvent('keydown', {key: k, bubbles: true, cancelable: true}); document.querySelector('.steps').dispatchEvent(e); return e.defaultPrevented; }"
    assert browser.evaluate(f"({prevented})('ArrowRight')") is True
    assert browser.evaluate(f"({prevented})('ArrowDown')") is False
    assert browser.evaluate(f"({prevented})('Tab')") is False


def test_without_scripts_all_passes_are_listed(browser, page):
    browser.open(page, scripts=False)
    assert browser.evaluate(SHOWN) == browser.evaluate("document.querySelectorAll('.steps .pass').length") == 12
    assert browser.evaluate("getComputedStyle(document.querySelector('.controls')).display") == "none"
    browser.open(page)
    assert browser.evaluate(SHOWN) == 4  # one of each generation


def test_it_prints_with_all_passes(browser, page):
    browser.open(page)
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.evaluate(SHOWN) == 12
    assert browser.pdf().startswith(b"%PDF")
    assert browser.evaluate("Array.from(document.querySelectorAll('details')).every(d => d.open)") is True


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The page of a log and its drafter."""
    folder = tmp_path_factory.mktemp("recorded")
    write_run(folder)
    write_report([folder], folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_of_a_recorded_run_fits_and_can_be_read(browser, recorded, width, dark):
    check_page(browser, recorded, width=width, dark=dark, parts=PARTS)


def test_the_steps_of_a_recorded_run_are_walked(browser, recorded):
    browser.open(recorded)
    n = int(browser.evaluate(AT).split(":")[0].split(" of ")[1])
    assert n > 1
    browser.evaluate("document.querySelector('.steps').focus()")
    browser.press("End")
    assert browser.evaluate(AT).startswith(f"Pass {n} of {n}")


def test_a_screenshot_is_as_wide_as_the_window_and_as_high_as_the_page(browser, recorded):
    browser.open(recorded, width=390)
    picture = browser.screenshot()
    assert picture.startswith(b"\x89PNG")
    size = tuple(int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
    assert size == (390, browser.evaluate("document.documentElement.scrollHeight"))
