"""The `tasc` command line: finds the verb, loads its module only then, and turns errors into one line.

Exit codes: 0 done, 1 an error of data, model or machine, 2 wrong usage, 130 interrupted. `tasc --debug VERB ...` or
`TASC_DEBUG=1` gives the traceback of an error instead of its line.
"""

import errno
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from tasc.errors import TascError

# verb -> (module with a function `command` or, for verbs of its own, a Typer `app`; help line for `tasc --help`), in the
# order in which people need them
VERBS: dict[str, tuple[str, str]] = {
    "analyze": ("tasc.cli.analyze", "Measure how variable a task's outputs are and say what would pay."),
    "enrich": ("tasc.cli.enrich", "Mine n-grams from a task's outputs and write the enriched tokenizer."),
    "train": ("tasc.cli.train", "Fine-tune a model, with or without an enriched vocabulary."),
    "draft": ("tasc.cli.draft", "Build a drafter from a task's outputs; inspect, merge and update it."),
    "generate": ("tasc.cli.generate", "Generate outputs for a file of prompts."),
    "serve": ("tasc.cli.serve", "Serve a model with drafts on vLLM's OpenAI server."),
    "profile": ("tasc.cli.profile", "Measure what a forward pass costs, for the length of drafts."),
    "replay": ("tasc.cli.replay", "Measure drafters on known outputs, without a model."),
    "tune": ("tasc.cli.tune", "Fit a drafter to a task and a machine, and predict whether it will help there."),
    "export": ("tasc.cli.export", "Write a drafter or a model in the files of llama.cpp or SGLang."),
    "eval": ("tasc.cli.eval", "Score a model's outputs on held-out data: quality next to speed."),
    "report": ("tasc.cli.report", "Write runs as one HTML page: quality, speed, drafts pass by pass."),
    "demo": ("tasc.cli.demo", "Run the whole method on a small built-in task."),
}

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports
HELP_FLAGS = {"help_option_names": ["-h", "--help"]}
UsageError: Any = typer.BadParameter.__base__  # click's, wherever this typer keeps it


def load_command(verb: str) -> Any:
    """Imports a verb's module and builds its command.

    Args:
        verb: A key of `VERBS`.

    Returns:
        The click command that typer makes of the module's function `command`, or the group that it makes of its `app`.
    """
    module = import_module(VERBS[verb][0])
    if hasattr(module, "app"):
        return typer.main.get_command(module.app)
    settings = HELP_FLAGS | getattr(module, "CONTEXT", {})
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown", context_settings=settings)
    app.command(verb)(module.command)
    return typer.main.get_command(app)


class _LazyGroup(TyperGroup):
    """A group whose listing shows the table above and whose verbs are imported when they are called."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:
        if cmd_name in VERBS:
            return TyperCommand(name=cmd_name, help=VERBS[cmd_name][1])
        return None

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:
        verb, listed, rest = super().resolve_command(ctx, args)
        return verb, listed if verb is None else load_command(verb), rest

    def make_context(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().make_context(*args, **extra)
        except UsageError as error:
            _refuse(error)

    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            _refuse(error)
        except (TascError, OSError, KeyboardInterrupt) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # `tasc ... | head`: typer ends quietly
            if ctx.params.get("debug"):
                raise
            _fail(error)
        except SystemError as error:
            if not isinstance(error.__cause__, KeyboardInterrupt) or ctx.params.get("debug"):
                raise
            _fail(error.__cause__)  # Ctrl-C in the middle of compiled code


def describe(error: BaseException) -> str:
    """Returns an error's message on one line.

    Examples:
        >>> describe(FileNotFoundError(2, "No such file or directory", "a.jsonl"))
        'a.jsonl: No such file or directory'
    """
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _fail(error: BaseException) -> NoReturn:
    typer.echo(f"error: {describe(error)}", err=True)
    raise typer.Exit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1) from None


def _refuse(error: Any) -> NoReturn:
    """Wrong usage, on one line as well; a verb without any argument shows its help page."""
    if error.ctx is None or type(error).__name__ == "NoArgsIsHelpError":
        raise error
    message = " ".join(error.format_message().split()).rstrip(".")
    if hasattr(error.__cause__, "errors"):  # pydantic's, by which newer typers check ranges: it says the rule alone
        message += f", got {error.__cause__.errors()[0]['input']}"
    typer.echo(f"error: {message}; see '{error.ctx.command_path} --help'", err=True)
    raise typer.Exit(error.exit_code) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        from tasc import __version__

        typer.echo(f"tasc {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings=HELP_FLAGS,
)


@app.callback()
def root(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="TASC_DEBUG", help="Show the traceback of an error, not only its line.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Make a small language model faster at one task: fewer forward passes, quality measured.

    Start with `tasc demo`, or with `tasc analyze DATA --tokenizer TOKENIZER` on your own examples.
    """


def run() -> None:
    """Entry point of the `tasc` script."""
    app(prog_name="tasc")
