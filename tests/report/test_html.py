"""The page: valid, self-contained, escaped, without empty sections."""

import base64
import hashlib
import re
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from report_runs import estimate, full_report, full_run
from tasc.draft.interface import SOURCES
from tasc.report import Report, Run, figures, html, plots, render
from tasc.report.data import Estimate, Speed

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;{{ 7 * 7 }}"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Elements with their attributes, nesting checked, texts by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"{tag} closes what is not open"

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def headings(self):
        return [(int(tag[1]), text) for tag, text in self.texts if re.fullmatch("h[1-6]", tag)]


@pytest.fixture(scope="module")
def text():
    return render(full_report())


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


@pytest.fixture
def no_figures(monkeypatch):
    """Drawing takes most of the time."""
    monkeypatch.setattr(figures, "of", lambda run, prefix: defaultdict(list))
    monkeypatch.setattr(figures, "compared", lambda report: [])


def test_every_section_is_there_under_one_title_without_skipped_levels(page):
    levels = [level for level, _ in page.headings()]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [text for level, text in page.headings() if level == 2] == [
        "Verdict",
        "Quality and speed",
        "What the outputs look like",
        "How long outputs are",
        "How many n-grams",
        "Drafts: what was accepted",
        "Step by step",
        "Where the time went",
        "Lengths that were tried",
        "Training",
        "About this run",
    ]


def test_sections_without_data_are_left_out():
    page = Page(render(Report("bare", (Run(name="bare", kind="eval", facts=(("rows", "3"),)),))))
    assert page.headings() == [(1, "bare"), (2, "About this run")]
    assert page.all("svg") == page.all("table") == page.all("details") == []


def test_nothing_is_loaded_and_the_policy_names_the_one_script(page, text):
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", text)
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert page.all("link") == page.all("img") == page.all("iframe") == []
    assert len(page.all("script")) == 1
    script = text[text.index("<script>") + 8 : text.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy
    assert len(text.encode()) < 3_000_000


@pytest.fixture(scope="module")
def two():
    """Two runs, with hostile text wherever there is text."""
    hostile = full_run(HOSTILE, name=HOSTILE)
    hostile = replace(hostile, systems=tuple(replace(one, name=one.name + HOSTILE) for one in hostile.systems))
    return render(Report(HOSTILE, (hostile, full_run(HOSTILE, name="other"))))


def test_text_of_data_and_models_is_shown_and_never_run(two):
    page, text = Page(two), two
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert "alert(1)" not in text.replace("&lt;script&gt;alert(1)", "")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    shown = [data for _, data in page.texts if HOSTILE in data]
    assert len(shown) > 10
    assert "amp;49" not in text  # what stands in front of the sum, escaped or not


def test_ids_are_unique_and_every_reference_has_its_target(two):
    page, text = Page(two), two
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', text)
    assert len(references) > 20
    assert set(references) <= set(ids)


def test_figures_say_in_words_what_they_show(page):
    labels = [svg["aria-label"] for svg in page.all("svg")]
    assert len(labels) > 8
    assert all(svg["role"] == "img" for svg in page.all("svg"))
    assert any("drafts at batch 1: 4.50 (4.40 to 4.60)" in label for label in labels)
    assert any("1: 80%, 2: 57%" in label for label in labels)
    captions = [text for tag, text in page.texts if tag == "figcaption"]  # `texts` has no blank ones
    assert len(captions) == len(page.all("figcaption")) == len(labels)


def test_all_passes_stand_on_the_page_with_what_became_of_each_token(text):
    assert text.count('<li class="pass">') == 6
    assert text.count('class="tok corpus yes"') == 2 * 3 + 1  # and the legend
    assert text.count('class="tok prompt no"') == 2
    assert "(prompt, rejected)" in text
    assert "Pass 2 of 3: 2 drafted, 1 accepted, 1 token of the model's own." in text
    assert "Pass 3 of 3: nothing drafted, 1 token of the model's own." in text


@pytest.mark.usefixtures("no_figures")
def test_the_headline_is_the_fastest_system_that_is_not_known_to_be_worse():
    def headline(run):
        text = " ".join(render(Report("r", (run,))).split())
        return re.findall(r'<p class="big">([^<]+)</p>', text)

    run = full_run()
    assert headline(run) == ["4.5×", "0.800", "3.4"]
    worse = replace(run.systems[2], name="both", changed=0, budget=300, speeds=run.systems[2].speeds[:0])
    fast = replace(
        worse, speeds=tuple(replace(s, speed_up=replace(s.speed_up, value=9.0)) for s in run.systems[2].speeds)
    )
    assert headline(replace(run, systems=(*run.systems, fast)))[:2] == ["9.0×", "0.790"]
    low = replace(run.systems[1], difference=replace(run.systems[1].difference, value=-0.1, high=-0.05))
    assert headline(replace(run, systems=(run.systems[0], low, run.systems[2], fast)))[0] == "4.5×"
    own = replace(fast, changed=2, quality=(replace(run.systems[1].quality[0], estimate=estimate(0.77)),))
    assert headline(replace(run, systems=(*run.systems, own)))[:2] == ["9.0×", "0.770"]
    own = replace(own, difference=estimate(-0.2, 0.1))
    assert headline(replace(run, systems=(*run.systems, own)))[:2] == ["4.5×", "0.800"]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("kind", "spread"), [("compare", "range over the rounds"), ("tune", "95% interval")])
def test_no_headline_where_nothing_is_faster(kind, spread):
    run = full_run()
    slow = replace(run.systems[2], speeds=(Speed(1, 40.0, Estimate(0.96, 0.9, 1.02)),))
    text = " ".join(render(Report("r", (replace(run, kind=kind, systems=(run.systems[0], slow)),))).split())
    assert 'class="big"' not in text
    assert "is faster than baseline: drafts is 0.96 times as fast (0.90 to 1.02), batch 1." in text
    assert f"speed-up with its {spread}</caption>" in text


def test_sources_are_known_everywhere():
    assert list(html.SOURCES) == list(plots.SOURCES) == list(SOURCES)
    style = (html.TEMPLATES / "style.css").read_text(encoding="utf-8")
    for source in SOURCES:
        assert f".tok.{source} {{" in style
        assert style.count(f"--{source}: #") == 3  # light, dark, print
    assert set(re.findall(r"\.tok\.(\w+)", style)) == {*SOURCES, "own", "no"}


@pytest.mark.usefixtures("no_figures")
def test_several_runs_stand_side_by_side():
    page = Page(render(Report("two", (full_run(name="first"), full_run(name="second")))))
    tops = [text for level, text in page.headings() if level == 2]
    assert tops == ["Runs side by side", "first", "second"]
    table = page.all("table")
    assert len(table) == 3
    assert {"href": "#r1"} in page.all("a")


def test_the_same_report_gives_the_same_page(text):
    assert render(full_report()) == text
