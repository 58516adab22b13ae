"""The command line itself: which modules it loads, what errors look like, exit codes. The verbs are tested beside it."""

import errno
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from tasc import __version__
from tasc.cli import main
from tasc.errors import DataError

HEAVY = ("torch", "transformers", "datasets", "numba", "pandas", "sklearn", "matplotlib")


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | env, timeout=600, check=False
    )


@pytest.fixture
def invoke(monkeypatch):
    """Registers a function as the verb `fake` and runs `tasc` with arguments."""

    def invoke(function, *args, **env):
        module = types.ModuleType("fake_command")
        module.command = function  # pyright: ignore[reportAttributeAccessIssue]
        monkeypatch.setitem(sys.modules, "fake_command", module)
        monkeypatch.setitem(main.VERBS, "fake", ("fake_command", "Does something for a test."))
        return CliRunner().invoke(main.app, list(args), prog_name="tasc", env={"TASC_DEBUG": None, **env})

    return invoke


def raising(error: BaseException):
    def command() -> None:
        raise error

    return command


def test_version_is_the_installed_distribution():
    result = CliRunner().invoke(main.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"tasc {__version__}\n")


def test_help_lists_every_verb_with_its_line_and_imports_none():
    code = f"""
import sys
from typer.testing import CliRunner
from tasc.cli import main
result = CliRunner().invoke(main.app, ["--help"], env={{"COLUMNS": "200", "TERM": "dumb"}})
assert result.exit_code == 0, result.output
for verb, (module, line) in main.VERBS.items():
    assert verb in result.stdout and line in result.stdout, (verb, result.stdout)
    assert module not in sys.modules, module
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_a_verb_is_imported_when_it_is_called_with_its_options(invoke):
    seen = []

    def command(
        data: Annotated[str, typer.Argument(help="The data.")], n: Annotated[int, typer.Option(help="A number.")] = 3
    ) -> None:
        """Say what was given.

        And more.
        """
        seen.append((data, n))

    assert invoke(command, "fake", "a.jsonl", "--n", "5").exit_code == 0
    assert seen == [("a.jsonl", 5)]
    shown = invoke(command, "fake", "-h", COLUMNS="120").stdout
    assert "Say what was given." in shown
    assert "A number." in shown


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("a.jsonl:3: no completion"), "error: a.jsonl:3: no completion\n"),
        (DataError("two\n  lines"), "error: two lines\n"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a.jsonl"),
            "error: a.jsonl: No such file or directory\n",
        ),
        (OSError("no model\nat that place"), "error: no model at that place\n"),
        (OSError(), "error: OSError\n"),
    ],
)
def test_an_expected_error_is_one_line_and_exit_code_1(invoke, error, line):
    result = invoke(raising(error), "fake")
    assert (result.exit_code, result.stderr, result.stdout) == (1, line, "")


def test_an_interruption_is_exit_code_130(invoke):
    result = invoke(raising(KeyboardInterrupt()), "fake")
    assert (result.exit_code, result.stderr) == (130, "error: interrupted\n")


def test_an_interruption_of_compiled_code_is_one_too(invoke):
    error = SystemError("a kernel returned a result with an exception set")
    error.__cause__ = KeyboardInterrupt()
    result = invoke(raising(error), "fake")
    assert (result.exit_code, result.stderr) == (130, "error: interrupted\n")
    assert isinstance(invoke(raising(SystemError("other")), "fake").exception, SystemError)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fake", "--no-such-option"], "No such option: --no-such-option; see 'tasc fake --help'"),
        (["no-such-verb"], "No such command 'no-such-verb'; see 'tasc --help'"),
        (["--no-such-option"], "No such option: --no-such-option.*; see 'tasc --help'"),
        (["fake", "--number", "7"], "Invalid value for '--number': (?=.*3)(?=.*7).*; see 'tasc fake --help'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(invoke, args, message):
    def command(number: Annotated[int, typer.Option(min=0, max=3)] = 0) -> None:
        pass

    result = invoke(command, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(f"error: {message}\n", result.stderr)


def test_without_a_verb_it_shows_the_help_page(invoke):
    result = invoke(lambda: None)
    assert result.exit_code == 2
    assert "Usage: tasc" in result.stdout + result.stderr


@pytest.mark.parametrize(("args", "env"), [(["--debug", "fake"], {}), (["fake"], {"TASC_DEBUG": "1"})])
def test_debugging_lets_the_error_through(invoke, args, env):
    error = DataError("a.jsonl:3: no completion")
    assert invoke(raising(error), *args, **env).exception is error


def test_a_defect_keeps_its_traceback(invoke):
    error = KeyError("not for users")
    assert invoke(raising(error), "fake").exception is error


def test_a_closed_pipe_ends_quietly():
    code = """
import os, sys, types
from tasc.cli import main
module = types.ModuleType("fake_command")
def command() -> None:
    os.close(1)
    raise BrokenPipeError(32, "Broken pipe")
module.command = command
sys.modules["fake_command"] = module
main.VERBS["fake"] = ("fake_command", "")
sys.argv = ["tasc", "fake"]
main.run()
"""
    result = run_python(code)
    assert "Traceback" not in result.stderr
    assert "error:" not in result.stderr


def test_every_verb_has_a_module_beside_this_one_or_in_the_package():
    for module, line in main.VERBS.values():
        assert module.startswith("tasc.cli.")
        assert line.endswith(".")


def test_the_module_form_is_the_same_program(tmp_path: Path):
    result = subprocess.run(
        [sys.executable, "-m", "tasc", "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
        check=True,
    )
    assert result.stdout == f"tasc {__version__}\n"
    assert json.dumps(result.stderr) == '""'
