"""`tasc replay`: what a drafter would bring, on known outputs or the log of a run, without a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasc.cli import _options as options
from tasc.cli._console import emit, progress
from tasc.cli._drafters import Rows

if TYPE_CHECKING:
    from rich.table import Table

    from tasc.draft import Drafter
    from tasc.draft.cost import StepCost
    from tasc.draft.interface import Drafts

WHOLE_DRAFT = 10


def command(
    drafter: Annotated[Path, typer.Option(help="Drafter file from `tasc draft build`.")],
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="Test rows: JSONL, CSV, Parquet, folder or Hub name.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="Log that `tasc generate --record` wrote, instead of --data.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or Hub name of the tokenizer [the one the drafter was built with].")
    ] = None,
    vocab: Annotated[
        str | None, typer.Option(help="Folder of the n-grams that the drafter speaks [the one it was built with].")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Rivals to compare, by commas or repeated: paper, corpus, prompt-lookup, suffix, suffix-best."
        ),
    ] = None,
    cost: Annotated[
        Path | None,
        typer.Option(
            help="Step-cost curve from `tasc profile`; default: the log's, the one it was tuned for, or a typical CPU's."
        ),
    ] = None,
    max_draft: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Most drafted tokens per pass. Default: the log's or what it was tuned to, else {WHOLE_DRAFT} for whole drafts"
            " and as `tasc generate` for the predicted speed-up.",
        ),
    ] = None,
    min_probability: Annotated[
        float, typer.Option(min=0, max=1, help="End a draft where all of it is less likely than this to be accepted.")
    ] = 0.0,
    tree: Annotated[
        bool,
        typer.Option("--tree/--no-tree", help="With --data: whole drafts are trees, or chains as in vLLM."),
    ] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Rows that share passes.")] = 1,
    max_prompt: Annotated[int, typer.Option(min=1, help="Cut prompts to so many tokens.")] = 1500,
    limit: options.LimitOption = None,
    split: options.SplitOption = None,
    prompt_column: options.PromptColumnOption = "prompt",
    completion_column: options.CompletionColumnOption = "completion",
    messages_column: options.MessagesColumnOption = "messages",
    skip_bad: options.SkipBadOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Measure drafters on known outputs, without a model.

    With `--data`, the tokens per pass are those of whole drafts, where the first token of each output is given. The
    speed-up is predicted for decoding as `tasc generate` does it, which drafts before the prompt's pass, trees where the
    drafter has them, and chooses lengths by the cost curve.

    With `--log`, everything is as in the recorded run: batches, options and, for the same drafter, its passes.

    Rivals know the outputs that the drafter was built from.
    """
    from tasc.draft import Drafter
    from tasc.draft.options import MAX_DRAFT
    from tasc.replay.origin import tokenizer_of, vocabulary_of

    if (data is None) == (log is None):
        raise typer.BadParameter("pass --data, test rows, or --log, a recorded run")
    if log is not None and (min_probability, tree, batch_size, split) != (0.0, False, 1, None):
        raise typer.BadParameter(
            "a log says how its run was decoded: pass --min-probability, --tree, --batch-size and --split with --data"
        )
    loaded = Drafter.load(drafter)
    contenders = [(drafter.name, loaded), *_rivals(against, loaded)]
    if log is not None:
        report = _replay_log(log, loaded, contenders, cost, max_draft, limit)
    else:
        rows = Rows(
            data or "",
            split=split,
            prompt_column=prompt_column,
            completion_column=completion_column,
            messages_column=messages_column,
            skip_bad=skip_bad,
            limit=limit,
        )
        vocabulary = vocabulary_of(loaded, drafter, vocab)
        prompts, outputs = rows.encode(
            loaded, tokenizer_of(loaded, drafter, tokenizer, vocabulary), vocabulary, max_prompt
        )
        if max_draft is None and loaded.tuned is not None:
            max_draft = loaded.tuned.max_draft
        whole = {
            "max_draft": max_draft or WHOLE_DRAFT,
            "min_probability": min_probability,
            "tree": tree,
            "batch_size": batch_size,
        }
        report = {
            "skipped_rows": rows.n_skipped,
            **_replay_data(contenders, prompts, outputs, _cost(cost, loaded), whole, max_draft or MAX_DRAFT),
        }
    report = {"drafter": drafter, "data": data, "log": log, **report}
    emit(report, as_json=as_json, human=lambda: _table(report))


def _rivals(names: Sequence[str] | None, drafter: "Drafter") -> list[tuple[str, "Drafts"]]:
    from tasc.replay.rivals import make_rival

    wanted = [name.strip() for name in ",".join(names or ()).split(",") if name.strip()]
    return [(name, make_rival(name, drafter.index)) for name in dict.fromkeys(wanted)]


def _replay_data(
    contenders: Sequence[tuple[str, "Drafts"]],
    prompts: Any,
    outputs: Any,
    cost: "StepCost",
    whole: dict[str, Any],
    max_draft: int,
) -> dict[str, Any]:
    """Each drafter twice: whole drafts for the tokens per pass, and as decoding does it, at most `max_draft`, for the time."""
    from tasc.draft.adaptive import adaptive
    from tasc.draft.control import Control
    from tasc.replay import replay

    results = []
    with progress("replaying", total=len(prompts) * len(contenders)) as advance:
        for name, drafter in contenders:
            by_length = replay(drafter, prompts, outputs, name=name, cost=cost, **whole)
            control = Control(cost, max_draft=max_draft)
            decoded = replay(
                adaptive(drafter),
                prompts,
                outputs,
                control=control,
                before_prefill=True,
                batch_size=whole["batch_size"],
                progress=advance,
            )
            decoding = decoded.to_json()
            shown = ("tokens_per_pass", "drafted_per_pass", "passes_per_output", "predicted_speedup")
            results.append(
                by_length.to_json()
                | {"predicted_speedup": decoding["predicted_speedup"]}
                | {"plain_ms_per_output": decoding["plain_ms_per_output"]}
                | {"drafted_ms_per_output": decoding["drafted_ms_per_output"]}
                | {"whole_drafts_speedup": by_length.predicted_speedup}
                | {"decoding": {"max_draft": max_draft} | {key: decoding[key] for key in shown}}
            )
    return {"rows": len(prompts), **whole, "cost": cost.about, "results": results}


def _replay_log(
    path: Path,
    drafter: "Drafter",
    contenders: Sequence[tuple[str, "Drafts"]],
    cost: Path | None,
    max_draft: int | None,
    limit: int | None,
) -> dict[str, Any]:
    from tasc.draft.control import Control
    from tasc.draft.options import MAX_DRAFT
    from tasc.replay import replay_log
    from tasc.replay.origin import at_work, curve_of, log_of, options_of

    log = log_of(path, drafter)
    requests = log.requests[:limit]
    chosen: dict[str, Any] = {"max_draft": MAX_DRAFT} | options_of(log, path)
    if max_draft is not None:
        chosen["max_draft"] = max_draft
    curve = (curve_of(log, path) if cost is None else None) or _cost(cost, drafter)
    passes = sum(request.passes for request in requests)
    recorded = {
        "tokens_per_pass": sum(len(request.output_ids) for request in requests) / passes,
        "drafted_per_pass": sum(sum(request.drafted) for request in requests) / passes,
    }
    results = []
    with progress("replaying", total=len(requests) * len(contenders)) as advance:
        for name, one in contenders:
            done = replay_log(
                at_work(one, log), requests, name=name, control=Control(curve, **chosen), progress=advance
            )
            same = all(a.took_the_passes_of(b) for a, b in zip(done.requests, requests, strict=True))
            results.append(done.to_json() | {"same_passes": same})
    return {"rows": len(requests), **chosen, "cost": curve.about, "recorded": recorded, "results": results}


def _cost(path: Path | None, drafter: "Drafter") -> "StepCost":
    from tasc.draft.cost import StepCost

    if path is not None:
        return StepCost.load(path)
    return StepCost.default("cpu") if drafter.tuned is None else StepCost.from_json(drafter.tuned.cost)


def _table(report: dict[str, Any]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    title = f"{report['rows']:,} outputs, drafts of at most {report['max_draft']} tokens"
    if report.get("recorded"):
        title += ", recorded {tokens_per_pass:.2f} tokens per pass".format_map(report["recorded"])
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("drafter", no_wrap=True)
    for name in ("tokens per pass", "ratio", "drafted per pass", "first accepted", "propose", "predicted speed-up"):
        table.add_column(name, justify="right", min_width=9 if name.startswith("predicted") else None)
    first = report["results"][0]["tokens_per_pass"]
    for result in report["results"]:
        accepted = result["acceptance_by_position"]
        table.add_row(
            Text(result["name"]),
            f"{result['tokens_per_pass']:.2f}",
            f"{result['tokens_per_pass'] / first:.2f}",
            f"{result['drafted_per_pass']:.2f}",
            f"{accepted[0]:.0%}" if accepted else "",
            f"{result['propose_us']:.1f} us",
            f"{result['predicted_speedup']:.2f}",
        )
    return table
