"""The API pages name everything that is public, and its docstrings say all that a reference must say."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest

import tasc

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [DOCS / "api.md", *sorted((DOCS / "api").glob("*.md"))]
NAMES = [name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)]
ROOMS = ("analysis", "corpus", "decode", "draft", "evals", "export", "replay", "report", "train", "vocab")


def found(name):
    """The object of a dotted name. A module comes before a function of that name, as for mkdocstrings."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            if error.name not in (".".join(parts[:cut]), ".".join(parts[: cut - 1])):
                raise
            continue
        for part in parts[cut:]:
            value = getattr(value, part)
        return value
    raise AssertionError(name)


def functions():
    """Every function and public method that the pages show, by its name."""
    for name in NAMES:
        value = found(name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            own = {
                key: member
                for one in reversed(value.__mro__)
                if one.__module__.startswith("tasc")
                for key, member in vars(one).items()
            }
            if not dataclasses.is_dataclass(value) and not issubclass(value, Exception) and "__init__" in vars(value):
                yield name, value
            for key, member in own.items():
                inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                if inspect.isfunction(inner) and not key.startswith("_"):
                    yield f"{name}.{key}", inner


FUNCTIONS = dict(functions())


def section(value, title):
    """The names that a section of a Google docstring explains."""
    doc = inspect.getdoc(value) or ""
    match = re.search(rf"^{title}:\n((?:    .*\n|\n)+)", doc + "\n", re.MULTILINE)
    return set(re.findall(r"^    \*{0,2}(\w+):", match[1], re.MULTILINE)) if match else set()


def parameters(value):
    return [
        p.name
        for p in inspect.signature(value).parameters.values()
        if p.name not in ("self", "cls") and not p.name.startswith("_") and p.kind is not p.VAR_KEYWORD
    ]


def test_every_name_stands_once():
    objects = [id(found(name)) for name in NAMES]
    assert [name for name in NAMES if objects.count(id(found(name))) > 1] == []


def test_every_exported_name_is_there():
    shown = {id(found(name)) for name in NAMES} | {id(tasc.TascError)}  # with the other errors
    rooms = [tasc, *(importlib.import_module(f"tasc.{room}") for room in ROOMS)]
    exported = {(room.__name__, name): getattr(room, name) for room in rooms for name in room.__all__}
    missing = [name for name, value in exported.items() if id(value) not in shown]
    assert missing == [("tasc", "__version__")]


def test_the_pages_are_in_the_navigation():
    nav = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if f": {page.relative_to(DOCS)}\n" not in nav] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_explains_its_arguments(name):
    value = FUNCTIONS[name]
    assert inspect.getdoc(value), f"{name} has no docstring"
    names, explained = parameters(value), section(value, "Args")
    if explained or len(names) > 2 or name.count(".") == 1:
        assert set(names) - explained == set(), f"{name}: not in Args"
        known = set(inspect.signature(value).parameters)
        has_more = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(value).parameters.values())
        assert has_more or explained <= known, f"{name}: no such argument"


@pytest.mark.parametrize("name", [name for name in NAMES if dataclasses.is_dataclass(found(name))])
def test_a_dataclass_explains_its_fields(name):
    value = found(name)
    fields = {field.name for field in dataclasses.fields(value) if not field.name.startswith("_")}
    assert fields - section(value, "Attributes") - section(value, "Args") == set()
