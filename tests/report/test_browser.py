"""The page in a real browser: no console errors, nothing loaded, operated by keyboard, fits a phone, prints."""

import pytest

from chromium import Chromium
from report_runs import full_run
from tasc.report import Report, render

LONG = "a-very-long-word-without-a-break-" * 8
AT = "document.querySelector('.steps .pass:not(.off) .what').textContent"
SHOWN = "Array.from(document.querySelectorAll('.steps .pass')).filter(p => getComputedStyle(p).visibility === 'visible').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


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
    browser.open(page, width=width, dark=dark)
    assert browser.errors == []
    assert browser.requested == [page.as_uri()]
    assert browser.evaluate("document.title") == "two - TASC report"
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    wider = "Array.from(document.querySelectorAll('table, figure, .card, .steps')).filter(e => e.getBoundingClientRect().right > innerWidth)"
    assert browser.evaluate(f"{wider}.map(e => e.outerHTML.slice(0, 80))") == []


def test_every_text_has_contrast_in_both_schemes(browser, page):
    script = """
    (() => {
      const parse = (c) => { const v = c.match(/[\\d.]+/g).map(Number); return v.length > 3 && v[3] === 0 ? null : v.slice(0, 3); };
      const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c) return c; }
        return null; };
      const low = [];
      for (const e of document.querySelectorAll("body *:not(svg *):not(script)")) {
        if (!Array.from(e.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
        if (e.closest("[aria-disabled=true], .hidden")) continue;
        const a = light(parse(getComputedStyle(e).color)), b = light(ground(e));
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) low.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)}`);
      }
      return Array.from(new Set(low));
    })()
    """
    for dark in (False, True):
        browser.open(page, dark=dark)
        assert browser.evaluate(script) == []


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
