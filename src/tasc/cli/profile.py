"""`tasc profile`: what a forward pass costs on this machine, as the curve that decides how long drafts are."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tasc.cli import _options as options
from tasc.cli._console import emit, progress

TokensOption = Annotated[str, typer.Option(help="Tokens per row and pass, ascending from 1.")]
BatchSizesOption = Annotated[str, typer.Option(help="Rows in a pass, ascending.")]
ContextsOption = Annotated[str, typer.Option(help="Tokens in the cache, ascending; too long ones are left out.")]


def command(
    model: options.ModelOption,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write.")] = None,
    tokens: TokensOption = "1,2,4,8,16",
    batch_sizes: BatchSizesOption = "1,8",
    contexts: ContextsOption = "64,256",
    repeats: Annotated[int, typer.Option(min=1, help="Passes of each size; the fastest counts.")] = 15,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    trust_remote_code: options.TrustOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Measure what a forward pass costs, for the length of drafts.

    Times passes over some tokens of each row, at several batch sizes and context lengths. `tasc generate --cost` and
    `tasc.speculative(cost=...)` draft by this curve instead of a typical one.
    """
    from tasc.decode import load_model
    from tasc.decode.profile import fitting_contexts, profile

    axes = [
        _numbers(name, text)
        for name, text in (("tokens", tokens), ("batch-sizes", batch_sizes), ("contexts", contexts))
    ]
    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    n_passes = len(axes[0]) * len(axes[1]) * len(fitting_contexts(loaded.model, axes[2], axes[0])) * repeats
    with progress(f"timing {loaded.name}", total=n_passes, unit="passes") as advance:
        cost = profile(
            loaded.model, tokens=axes[0], batch_sizes=axes[1], contexts=axes[2], repeats=repeats, progress=advance
        )
    if output is not None:
        cost.save(output)
    emit({"output": output, **cost.to_json()}, as_json=as_json, human=lambda: _table(cost, output))


def _numbers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--{name} must be whole numbers with commas between, got {text!r}") from None


def _table(cost: Any, output: Path | None) -> Any:
    from rich.table import Table

    title = "{model}: ms per pass on {device}, {dtype}, threads {threads}".format_map(cost.about)
    table = Table(title=title if output is None else f"{title}, in {output}", title_justify="left")
    for column in ("rows", "context", *(f"{k} tokens" if k > 1 else "1 token" for k in cost.tokens)):
        table.add_column(column, justify="right")
    for batch_size, of_batch in zip(cost.batch_sizes, cost.ms, strict=True):
        for context, times in zip(cost.contexts, of_batch, strict=True):
            relative = [f"{ms:.2f}" if k == 0 else f"{ms:.2f} ({ms / times[0]:.2f}x)" for k, ms in enumerate(times)]
            table.add_row(str(batch_size), str(context), *relative)
    return table
