"""The messages of docs/troubleshooting.md are those of the code."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GAP = "…"  # what an f-string fills in
MESSAGES = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)


def strings(tree: ast.AST) -> Iterator[str]:
    """Every string of a module, with a gap for each value that it is filled with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values)


@cache
def templates() -> list[str]:
    sources = sorted((ROOT / "src").rglob("*.py"))
    return [text for path in sources for text in strings(ast.parse(path.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_of_the_code(message):
    parts = [re.escape(part) for part in message.split(GAP)]
    pattern = re.compile(".*?".join(parts), re.DOTALL)
    assert any(pattern.search(text) for text in templates()), message


def test_there_are_messages():
    assert len(MESSAGES) > 25
