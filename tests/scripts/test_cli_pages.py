"""The generated command pages, for a command made here."""

import runpy
import sys
import types
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer

from tasc.cli import main

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "cli_pages.py"


def command(
    data: Annotated[str, typer.Argument(help="File with\n examples.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write: `a/<b>` or a/<b>.")],
    method: Annotated[Literal["paper", "best"], typer.Option(help="How | which.")] = "best",
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    seed: Annotated[int, typer.Option(metavar="N|auto", help="Seed.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One document.")] = False,
    extra: Annotated[int, typer.Option(hidden=True)] = 1,
) -> None:
    """Do it.

    Then tell.
    """


@pytest.fixture
def script(monkeypatch, tmp_path):
    module = types.ModuleType("fake_command")
    module.command = command  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "fake_command", module)
    monkeypatch.setattr(main, "VERBS", {"fake": ("fake_command", "Does it.")})
    names = runpy.run_path(str(SCRIPT))
    names["main"].__globals__["FOLDER"] = tmp_path / "cli"
    return types.SimpleNamespace(**names)


def test_a_page_has_usage_arguments_options_and_defaults(script):
    assert script.page("fake").splitlines()[2:] == [
        "# tasc fake",
        "",
        "Do it.",
        "",
        "Then tell.",
        "",
        "```",
        "tasc fake DATA [OPTIONS]",
        "```",
        "",
        "| Argument | Default | Meaning |",
        "| --- | --- | --- |",
        "| `DATA` | required | File with examples. |",
        "",
        "| Option | Default | Meaning |",
        "| --- | --- | --- |",
        "| `-o`, `--out` PATH | required | Where to write: `a/<b>` or a/&lt;b>. |",
        "| `--method` `paper` \\| `best` | `best` | How \\| which. |",
        "| `--lr` NUMBER |  | Learning rate. |",
        "| `--seed` N\\|auto | `0` | Seed. |",
        "| `--json` |  | One document. |",
    ]


def test_check_fails_until_the_pages_are_written_and_when_one_is_left_over(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cli_pages.py", "--check"])
    assert script.main() == 1
    assert "fake.md, index.md" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["cli_pages.py"])
    assert script.main() == 0
    (tmp_path / "cli" / "gone.md").touch()
    monkeypatch.setattr(sys, "argv", ["cli_pages.py", "--check"])
    assert script.main() == 1
    monkeypatch.setattr(sys, "argv", ["cli_pages.py"])
    assert script.main() == 0
    assert sorted(path.name for path in (tmp_path / "cli").iterdir()) == ["fake.md", "index.md"]
    monkeypatch.setattr(sys, "argv", ["cli_pages.py", "--check"])
    assert script.main() == 0


def test_a_verb_with_verbs_of_its_own_has_a_section_for_each(script, monkeypatch):
    app = typer.Typer(help="Does things.")
    app.command("one")(command)

    @app.command("two")
    def two(count: Annotated[int, typer.Option(help="How often.")] = 2) -> None:
        """Do the other."""

    module = types.ModuleType("fake_group")
    module.app = app  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "fake_group", module)
    monkeypatch.setattr(main, "VERBS", {"fake": ("fake_group", "Does things.")})
    lines = script.page("fake").splitlines()
    assert [line for line in lines if line.startswith("#")] == ["# tasc fake", "## tasc fake one", "## tasc fake two"]
    assert {
        "tasc fake one DATA [OPTIONS]",
        "tasc fake two [OPTIONS]",
        "| `--count` INTEGER | `2` | How often. |",
    } < set(lines)
