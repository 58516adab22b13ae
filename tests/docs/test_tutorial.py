"""docs/tutorial.md: its commands and its Python are run as they stand, with fewer steps and rows; then docs/howto.md.

Every block marked `bash` is run, in order; the few words of the shell that they use are read here, so that torch is
loaded once. Where a block marked `text` follows, its lines must be among those that the commands before it print, numbers
aside: the page shows a longer run.
"""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tasc.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
HOWTO = re.findall(r"`(tasc [^`]+)` \| \[", (ROOT / "docs" / "howto.md").read_text(encoding="utf-8"))
NOT_HERE = ("tasc export gguf", "tasc serve", "tasc demo")  # the converter, vLLM; the demo has its own tests
EXAMPLE = ROOT / "examples" / "intent_model.py"
BLOCKS = re.findall(r"^```(bash|text|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
STEPS = 800
FEW_STEPS = 4  # nothing is learnt in them; every file and every line is there all the same
ROWS = {"train": 400, "validation": 120, "test": 8}


class Shell:
    """The shell of the page: variables, `cd`, `tasc` with or without `> FILE`, nothing else."""

    def __init__(self, monkeypatch, variables):
        self.monkeypatch, self.fixed, self.variables, self.ran = monkeypatch, variables, dict(variables), []

    def run(self, code):
        """Returns what the commands print on stdout."""
        lines = code.replace("\\\n", " ").splitlines()
        return "".join(self.command(shlex.split(line, comments=True)) for line in lines)

    def command(self, words):
        words = [self.variables[word[1:]] if word.startswith("$") else word for word in words]
        match words:
            case []:
                return ""
            case ["cd", folder]:
                self.monkeypatch.chdir(folder)
                return ""
            case ["export", setting] | [setting] if "=" in setting:
                name, _, value = setting.partition("=")
                self.variables.setdefault(name, value)  # those of the test hold
                return ""
            case ["tasc", *arguments, ">", file]:
                Path(file).write_text(self.tasc(arguments), encoding="utf-8")
                return ""
            case ["tasc", *arguments]:
                return self.tasc(arguments)
        raise AssertionError(f"not a command of the page's shell: {words}")

    def tasc(self, arguments):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"tasc {shlex.join(arguments)}\n{result.output[-3000:]}\n{result.exception!r}"
        self.ran.append(shlex.join(["tasc", *arguments]))
        return result.stdout


def steps():
    """Each `bash` block with the lines that the page shows of its output."""
    found = []
    for kind, code in BLOCKS:
        if kind == "bash":
            found.append((code, []))
        elif kind == "text":
            found[-1][1].extend(line for line in code.splitlines() if line.strip() not in ("", "..."))
    return found


def masked(line):
    """A line without its numbers, the lines of a table and how it is spaced."""
    return " ".join(re.sub(r"[-+]?\d[\d,.]*", "#", re.sub("[│┃]", " ", line)).split())


def cut_the_data(folder):
    """Leave only the first rows of each split."""
    for split, n in ROWS.items():
        path = folder / f"{split}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:n]), encoding="utf-8")


@pytest.mark.slow
def test_the_commands_run_and_print_what_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    assert f"\nSTEPS={STEPS}\n" in PAGE
    shell = Shell(monkeypatch, {"STEPS": str(FEW_STEPS)})
    first, *others = steps()
    shell.run(first[0])
    cut_the_data(tmp_path / "data")
    for code, shown in others:
        printed = shell.run(code)
        found = {masked(line) for line in printed.splitlines()}
        assert [line for line in shown if masked(line) not in found] == [], printed
    for line in HOWTO:  # in the folder that the tutorial leaves
        if line not in shell.ran and not line.startswith(NOT_HERE):
            shell.run(line)
    written = {name for line in shell.ran for name in re.findall(r" -o (\S+)", line)} - {"data"}
    assert len(written) > 12
    assert [name for name in written if not (tmp_path / "data" / name).exists()] == []
    assert (tmp_path / "data" / "report.html").read_text(encoding="utf-8").count("<h2") >= 3


def test_the_python_is_the_example():
    (python,) = [code for kind, code in BLOCKS if kind == "python"]
    docstring, code = EXAMPLE.read_text(encoding="utf-8").split('"""\n\n', 1)
    assert docstring.startswith('"""')
    assert python == code


@pytest.mark.slow
def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Shell(monkeypatch, {}).run("tasc demo --data-only -o .")
    cut_the_data(tmp_path)
    code = EXAMPLE.read_text(encoding="utf-8")
    assert code.count(f"STEPS = {STEPS}\n") == 1
    (tmp_path / "example.py").write_text(code.replace(f"STEPS = {STEPS}\n", f"STEPS = {FEW_STEPS}\n"))
    capsys.readouterr()
    runpy.run_path("example.py", run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Use TASC-ft")
    assert re.fullmatch(r"M=\d+: expected decoding cost .*", lines[1])
    assert re.fullmatch(r"\d+ forward passes", lines[-1])
    for name in ("vocab/enriched.json", "run/model.safetensors", "run.tasc"):
        assert (tmp_path / name).is_file()


def test_the_comparison_adds_up_and_the_title_holds():
    """The figures of the comparison are those shown above it, and some row is four times as fast as the baseline."""
    table = re.findall(r"^\| (\w[^|]*) \| [^|]+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    shown = re.findall(
        r"^time per output +([\d.]+) ms +([\d.]+) ms\ntarget passes per output +([\d.]+) +([\d.]+)$", PAGE, re.MULTILINE
    )
    expected = [(passes[k], ms[k]) for *ms, a, b in shown for passes in [(a, b)] for k in (0, 1)]
    assert [(passes, ms) for _, passes, ms, _ in table] == expected
    assert len(table) == 4
    plain = float(table[0][2])
    assert [float(speedup) for *_, speedup in table] == [round(plain / float(ms), 1) for _, _, ms, _ in table]
    assert max(float(speedup) for *_, speedup in table) >= 4
