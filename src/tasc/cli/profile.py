"""`tasc profile`: what a forward pass costs on this machine, as the curve that decides how long drafts are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tasc.cli import _options as options
from tasc.cli._console import emit, progress
from tasc.cli._tasks import refuse_own_input, warn

if TYPE_CHECKING:
    from tasc.draft.cost import StepCost

TokensOption = Annotated[
    str | None,
    typer.Option(help="Tokens per row and pass, ascending from 1. Default: 1,2,4,8,16, with vLLM 1,2,4,8,16,25."),
]
BatchSizesOption = Annotated[
    str | None, typer.Option(help="Rows in a pass, ascending. Default: 1,8, with vLLM 1,8,32.")
]
ContextsOption = Annotated[str, typer.Option(help="Tokens in the cache, ascending; too long ones are left out.")]


def command(
    model: options.ModelOption,
    output: Annotated[
        Path | None, typer.Option(*options.OUT, callback=options.file_to_write, help="JSON file to write.")
    ] = None,
    engine: Annotated[
        Literal["transformers", "vllm"], typer.Option(help="What decodes; vllm is for `tasc serve`.")
    ] = "transformers",
    tokens: TokensOption = None,
    batch_sizes: BatchSizesOption = None,
    contexts: ContextsOption = "64,256",
    repeats: Annotated[int, typer.Option(min=1, help="Timed passes of each size; the fastest counts.")] = 15,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    trust_remote_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Measure what a forward pass costs, for the length of drafts.

    Times passes over some tokens of each row, at several batch sizes and context lengths. `tasc generate --cost`,
    `tasc.speculative(cost=...)` and `tasc serve --cost` draft by this curve instead of a typical one.
    """
    refuse_own_input(output, model)
    if engine == "vllm":
        from tasc.decode.vllm_profile import BATCH_SIZES, TOKENS
    else:
        from tasc.decode.profile import BATCH_SIZES, TOKENS

    axes = [
        _numbers("tokens", tokens) if tokens else list(TOKENS),
        _numbers("batch-sizes", batch_sizes) if batch_sizes else list(BATCH_SIZES),
        _numbers("contexts", contexts),
    ]
    if engine == "vllm":
        if device != "auto":
            raise typer.BadParameter("vLLM chooses the device itself; leave --device out")
        cost = _in_vllm(model, axes, repeats, dtype=dtype, trust_remote_code=trust_remote_code)
    else:
        cost = _in_transformers(model, axes, repeats, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    if output is not None:
        cost.save(output)
    emit({"output": output, **cost.to_json()}, as_json=as_json, human=lambda: _table(cost, output))


def _in_vllm(model: str, axes: list[list[int]], repeats: int, **options: Any) -> "StepCost":
    from tasc.decode.vllm_profile import profile_vllm

    with progress(f"timing {model}", total=None, unit="passes") as advance:
        return profile_vllm(
            model, tokens=axes[0], batch_sizes=axes[1], contexts=axes[2], repeats=repeats, progress=advance, **options
        )


def _in_transformers(model: str, axes: list[list[int]], repeats: int, **options: Any) -> "StepCost":
    from tasc.decode import load_model
    from tasc.decode.profile import fitting_contexts, profile

    loaded = load_model(model, **options)
    fitting = fitting_contexts(loaded.model, axes[2], axes[0])
    if left_out := [context for context in axes[2] if context not in fitting]:
        warn(f"contexts of {', '.join(map(str, left_out))} tokens do not fit the model's positions and are left out")
    n_passes = len(axes[0]) * len(axes[1]) * len(fitting) * repeats
    with progress(f"timing {loaded.name}", total=n_passes, unit="passes") as advance:
        return profile(
            loaded.model, tokens=axes[0], batch_sizes=axes[1], contexts=axes[2], repeats=repeats, progress=advance
        )


def _numbers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--{name} must be whole numbers with commas between, got {text!r}") from None


def _table(cost: Any, output: Path | None) -> Any:
    from rich.table import Table

    about = {"engine": "transformers", **cost.about}
    title = "{model}: ms per pass on {device}, {dtype}, {engine}".format_map(about)
    table = Table(title=title if output is None else f"{title}, in {output}", title_justify="left")
    for column in ("rows", "context", *(f"{k} tokens" if k > 1 else "1 token" for k in cost.tokens)):
        table.add_column(column, justify="right")
    for batch_size, of_batch in zip(cost.batch_sizes, cost.ms, strict=True):
        for context, times in zip(cost.contexts, of_batch, strict=True):
            relative = [f"{ms:.2f}" if k == 0 else f"{ms:.2f} ({ms / times[0]:.2f}x)" for k, ms in enumerate(times)]
            table.add_row(str(batch_size), str(context), *relative)
    return table
