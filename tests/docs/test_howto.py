"""docs/howto.md knows every command, and no page shows an option that its command does not have."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from tasc.cli.main import VERBS, load_command

ROOT = Path(__file__).resolve().parents[2]
HOWTO = re.findall(
    r"^\| [^|]+ \| `(tasc [^`]+)` \| \[", (ROOT / "docs/howto.md").read_text(encoding="utf-8"), re.MULTILINE
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@cache
def options():
    """The options of every command: ("draft", "build") -> its names."""
    found = {}
    for verb in VERBS:
        command = load_command(verb)
        inner = getattr(command, "commands", None)
        for name, one in inner.items() if inner else [("", command)]:
            found[(verb, name) if name else (verb,)] = {n for p in one.params for n in (*p.opts, *p.secondary_opts)}
    return found


def command_of(words):
    """The command that the words behind `tasc` begin with, if they are one with arguments."""
    return next((words[:n] for n in (2, 1) if words[:n] in options()), None)


def commands_of(page):
    """The command lines of a page's code: the words behind `tasc`."""
    text = re.sub(r" *\\\n *", " ", page.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.startswith(("    tasc ", "tasc "))]
    lines += re.findall(r"`(tasc [^`\n]+)`", text)
    for line in lines:
        yield line.strip(), tuple(shlex.split(line.strip().split("  ")[0], comments=True)[1:])


def test_every_command_has_its_line():
    shown = {command_of(tuple(shlex.split(line)[1:])) for line in HOWTO}
    assert set(options()) - shown == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_command_has_an_unknown_option(page):
    wrong = []
    for line, words in commands_of(page):
        known = command_of(words)
        if known is None or known == ("serve",):  # what `tasc serve` does not know goes to vLLM
            continue
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        wrong += [(line, name) for name in given - options()[known] - {"--help"}]
    assert wrong == []


def test_commands_are_found():
    assert len(list(commands_of(ROOT / "docs/howto.md"))) > 20
    assert len([line for page in PAGES for line in commands_of(page)]) > 100
