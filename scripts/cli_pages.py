"""Writes docs/cli/: one page per verb of `tasc`, made from the commands themselves.

Usage: python scripts/cli_pages.py [--check]. With `--check` nothing is written; the exit code is 1 where a page is out of
date. The pages use only what typer's versions agree on, so that they do not change with the version installed.
"""

import inspect
import sys
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tasc.cli.main import VERBS, load_command

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "cli"
NOTE = "<!-- written by scripts/cli_pages.py from the command; do not edit -->\n"
WORDS = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}


def pages() -> dict[str, str]:
    """Returns the text of every page by file name."""
    return {"index.md": _index(), **{f"{verb}.md": page(verb) for verb in VERBS}}


def page(verb: str) -> str:
    """Returns the Markdown page of one verb, with a section for each of its own verbs if it has some."""
    command = load_command(verb)
    if not hasattr(command, "commands"):
        return "\n".join([NOTE, *_section(f"# tasc {verb}", verb, command, import_module(VERBS[verb][0]).command)])
    lines = [NOTE, f"# tasc {verb}\n", f"{inspect.cleandoc(command.help or '')}\n"]
    for name, inner in command.commands.items():
        lines += _section(f"## tasc {verb} {name}", f"{verb} {name}", inner, inspect.unwrap(inner.callback))
    return "\n".join(lines)


def _section(title: str, verb: str, command: Any, function: Any) -> Iterator[str]:
    """Heading, help, usage, arguments and options of one command."""
    types = get_type_hints(function, include_extras=True)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden and p.name != "help"]
    usage = " ".join(["tasc", verb, *(_placeholder(p) for p in arguments), "[OPTIONS]"])
    yield from (f"{title}\n", f"{inspect.cleandoc(command.help or '')}\n", f"```\n{usage}\n```\n")
    yield from _table("Argument", [(f"`{_placeholder(p)}`", p, types[p.name]) for p in arguments])
    yield from _table("Option", [(_spelling(p, types[p.name]), p, types[p.name]) for p in options])


def _index() -> str:
    rows = "\n".join(f"| [`tasc {verb}`]({verb}.md) | {line} |" for verb, (_, line) in VERBS.items())
    return f"""{NOTE}
# Commands

| command | what it does |
| --- | --- |
{rows}

`tasc --debug VERB ...` or `TASC_DEBUG=1` shows the traceback of an error instead of its line; `tasc --version` shows the
version. Exit codes: 0 done, 1 an error of data, model or machine, 2 wrong usage, 130 interrupted. With `--json` the result
is one JSON document on stdout; progress and notes go to stderr.
"""


def _table(title: str, rows: list[tuple[str, Any, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {title} | Default | Meaning |\n| --- | --- | --- |"
    for spelling, param, annotation in rows:
        yield f"| {spelling} | {_default(param)} | {_help(annotation)} |"
    yield ""


def _placeholder(param: Any) -> str:
    name = (param.metavar or param.name).strip("[]").upper()
    name += "..." if param.nargs == -1 else ""
    return name if param.required else f"[{name}]"


def _spelling(param: Any, annotation: Any) -> str:
    names = "`, `".join(sorted(param.opts, key=len))
    if param.is_flag:
        return "`" + " / ".join([names, *param.secondary_opts]) + "`"
    return f"`{names}` {_cell(param.metavar) if param.metavar else _kind(annotation)}"


def _kind(annotation: Any) -> str:
    """The word for a value of an annotated type, e.g. `INTEGER` or `lora`, `qlora`, `full`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in (Union, UnionType):
        return _kind(next(a for a in arguments if a is not NoneType))
    if origin in (list, tuple):
        return _kind(arguments[0])
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return " \\| ".join(f"`{member.value}`" for member in annotation)
    return WORDS.get(annotation, "VALUE")


def _default(param: Any) -> str:
    if param.required:
        return "required"
    if param.default is None or param.default is False or param.default in ([], ()) or callable(param.default):
        return ""
    value = param.default.value if isinstance(param.default, Enum) else param.default
    return f"`{value}`" if value is not True else "on"


def _help(annotation: Any) -> str:
    return _cell(next((m.help for m in get_args(annotation)[1:] if getattr(m, "help", None)), ""))


def _cell(text: str) -> str:
    """Text as it reads inside a table: one line, and no bar or bracket taken for markup outside of code."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def main() -> int:
    """Writes or checks the pages; returns the exit code."""
    wanted = pages()
    present = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    if "--check" in sys.argv[1:]:
        if stale:
            print(f"docs/cli is out of date ({', '.join(stale)}): run 'make format'", file=sys.stderr)
        return int(bool(stale))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
