"""`tasc train`: fine-tune a model on a task, with the task's own tokens, to one plain checkpoint."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tasc.cli import _options as options
from tasc.cli._console import console, emit, progress
from tasc.errors import OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from tasc.corpus import Tasks
    from tasc.train import TrainReport
    from tasc.vocab import EnrichedVocabulary

REQUEST_FILE = "request.json"  # beside a vocabulary that `--budget` made: what was asked for
LINES_PER_RUN = 20


def command(
    model: Annotated[str, typer.Option(help="Folder or Hub name of a decoder-only model.")],
    data: Annotated[str, typer.Option(help="Training rows: JSONL, CSV or Parquet file, folder of splits, Hub name.")],
    out: Annotated[Path, typer.Option(*options.OUT, metavar="RUN", help="Run folder.")],
    eval_data: Annotated[str | None, typer.Option(help="Held-out rows for the loss during training.")] = None,
    vocab: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Folder that `tasc enrich` wrote; its n-grams are added.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="M|auto", help="Mine that many n-grams first, into RUN/vocab.")
    ] = None,
    n_max: Annotated[int, typer.Option("--nmax", min=2, help="Longest n-gram for --budget.")] = 4,
    mining: Annotated[Literal["paper", "best"], typer.Option(help="Method of mining for --budget.")] = "best",
    tokenizer: Annotated[str | None, typer.Option(help="Base tokenizer, if not the one beside MODEL.")] = None,
    template: Annotated[str, typer.Option(help="auto, chat, plain or a .jinja file.")] = "auto",
    method: Annotated[
        Literal["lora", "qlora", "full"], typer.Option(help="How attention and MLP learn; qlora: over a 4-bit base.")
    ] = "lora",
    train_rows: Annotated[
        Literal["all", "new", "none"],
        typer.Option(help="Rows of embedding and head that learn; new keeps base rows bit-equal."),
    ] = "all",
    init: Annotated[
        Literal["mean", "exp", "ends", "first"], typer.Option(help="How new rows begin: docs/train.md.")
    ] = "exp",
    epochs: Annotated[float, typer.Option(help="Passes over the rows.")] = 3.0,
    max_steps: Annotated[int, typer.Option(help="Optimizer steps instead of epochs, if positive.")] = -1,
    lr: Annotated[float, typer.Option(help="Highest learning rate; it falls linearly to 0.")] = 2e-4,
    warmup: Annotated[float, typer.Option(help="Share of the steps over which the rate rises.")] = 0.0,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 0.0,
    batch_size: Annotated[int, typer.Option(help="Rows per device and forward pass.")] = 8,
    effective_batch: Annotated[int, typer.Option(help="Rows per optimizer step, over all devices.")] = 64,
    lora_r: Annotated[int, typer.Option(help="Rank of the updates.")] = 16,
    lora_alpha: Annotated[int, typer.Option(help="Scale of the updates, times the rank.")] = 16,
    lora_dropout: Annotated[float, typer.Option(help="Dropout in front of the updates.")] = 0.2,
    merge_dropout: Annotated[
        float, typer.Option(help="Probability that an occurrence of an n-gram stays in base tokens, drawn per epoch.")
    ] = 0.0,
    max_length: Annotated[
        int, typer.Option(help="Tokens per example; longer prompts lose their left end. 0: the model's, at most 2048.")
    ] = 0,
    precision: Annotated[
        Literal["auto", "bf16", "fp32"], typer.Option(help="auto: bf16 where the GPU has it, else fp32.")
    ] = "auto",
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Recompute activations to save memory.")
    ] = False,
    eval_rows: Annotated[int, typer.Option(help="At most so many rows of EVAL.")] = 512,
    eval_every: Annotated[int, typer.Option(help="Steps between evaluations; 0: ten in the run.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints; 0: ten in the run.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    split: Annotated[str | None, typer.Option(help="Split of DATA where it is a folder or Hub name [train].")] = None,
    eval_split: Annotated[
        str | None, typer.Option(help="Split of EVAL where it is a folder or Hub name [validation].")
    ] = None,
    prompt_column: Annotated[str, typer.Option(help="Column of the prompts.")] = "prompt",
    completion_column: Annotated[str, typer.Option(help="Column of the completions.")] = "completion",
    messages_column: options.MessagesColumnOption = "messages",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out and count them.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Use the first N rows of DATA only.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave a GPU unused.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let MODEL bring its own Python code.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished run or one with other options.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Fine-tune MODEL on DATA and write one merged checkpoint with its tokenizer to RUN.

    With `--vocab` or `--budget` the task's n-grams become tokens; without either the model is tuned as it is, with the
    n-grams that an earlier `tasc train` gave it. Ctrl-C saves a checkpoint after the current step; the same command goes
    on from the last checkpoint, also after a kill. Several GPUs: `accelerate launch -m tasc train ...`.
    """
    if vocab is not None and budget is not None:
        raise OptionError("--vocab and --budget exclude each other; pass one of them")
    from tasc.corpus import load_held_out, load_tasks, load_tokenizer
    from tasc.train import TrainingInterrupted, finetune
    from tasc.train.folder import RunFolder
    from tasc.vocab import EnrichedVocabulary
    from tasc.vocab.tokenizer import base_of, holds_ngrams

    if budget is not None and holds_ngrams(model):
        raise OptionError(
            f"{model} has n-grams of its own and cannot take others; train it further without --budget, or begin with the "
            "model that it was made from"
        )
    columns: dict[str, Any] = {
        "prompt_column": prompt_column,
        "completion_column": completion_column,
        "messages_column": messages_column,
        "skip_bad": skip_bad,
    }
    tasks = load_tasks(data, split=split, limit=limit, **columns)
    eval_tasks = None if eval_data is None else load_held_out(eval_data, split=eval_split, **columns)
    with _main_process(cpu) as is_main:
        note = _note if is_main else _ignore
        base = load_tokenizer(base_of(tokenizer or model))
        if is_main:
            _warn_about(tasks, eval_tasks)
            _warn_about_launch()
        vocabulary = EnrichedVocabulary.load(vocab) if vocab is not None else None
        if budget is not None:
            asked = {"budget": _budget(budget), "n_max": n_max, "method": mining}
            with RunFolder(out, {}).locked() if is_main else nullcontext():
                vocabulary = _mined(out / "vocab", tasks, eval_tasks, base, asked, overwrite=overwrite)
    try:
        with _shown() as on_record:
            report = finetune(
                model,
                tasks,
                out=out,
                eval_tasks=eval_tasks,
                vocabulary=vocabulary,
                tokenizer=base,
                template=template,
                method=method,
                train_rows=train_rows,
                init=init,
                lora_r=lora_r,
                lora_alpha=lora_alpha,
                lora_dropout=lora_dropout,
                lr=lr,
                weight_decay=weight_decay,
                warmup=warmup,
                epochs=epochs,
                max_steps=max_steps,
                batch_size=batch_size,
                effective_batch=effective_batch,
                merge_dropout=merge_dropout,
                max_length=max_length,
                precision=precision,
                gradient_checkpointing=gradient_checkpointing,
                eval_rows=eval_rows,
                eval_every=eval_every,
                save_every=save_every,
                seed=seed,
                cpu=cpu,
                trust_remote_code=trust_remote_code,
                overwrite=overwrite,
                on_record=on_record,
                on_note=note,
            )
    except TrainingInterrupted as interruption:
        note(f"{interruption}; the checkpoint is written, and the same command goes on from it")
        raise
    if is_main:
        emit(report.to_json(), as_json=as_json, human=lambda: _summary(report))


@contextmanager
def _main_process(cpu: bool) -> Iterator[bool]:
    """Runs the block in the main process first and then in the others, which find its files; yields which one it is."""
    from accelerate import PartialState

    state = PartialState(cpu=True) if cpu else PartialState()
    with state.main_process_first():
        yield state.is_main_process


def _budget(text: str) -> int | str:
    if text == "auto" or (text.isdecimal() and int(text) > 0):
        return text if text == "auto" else int(text)
    raise OptionError(f"--budget must be a positive number or auto, not {text!r}")


def _mined(
    folder: Path,
    tasks: "Tasks",
    eval_tasks: "Tasks | None",
    tokenizer: "PreTrainedTokenizerFast",
    asked: dict[str, Any],
    *,
    overwrite: bool,
) -> "EnrichedVocabulary":
    """The vocabulary in `folder`, mined unless the same request has made it already."""
    from tasc.corpus import fingerprint
    from tasc.files import read_json, write_json
    from tasc.train.folder import digest_of_tasks
    from tasc.vocab import EnrichedVocabulary, enrich

    request = folder / REQUEST_FILE
    found = read_json(request) if request.exists() else None
    rows = [digest_of_tasks(part) for part in (tasks, eval_tasks) if part is not None]
    wanted = asked | {"data": rows, "tokenizer": fingerprint(tokenizer)}
    if found == wanted:
        return EnrichedVocabulary.load(folder)
    if found is not None and not overwrite:
        raise OptionError(
            f"{folder} was mined with other rows, options or another tokenizer ({json.dumps(found)}); "
            "repeat these, choose another run folder, or pass --overwrite"
        )
    request.unlink(missing_ok=True)  # killed in between, the n-grams are nobody's
    enrich(tasks, tokenizer, eval_tasks=eval_tasks, out=folder, progress=progress, **asked)
    write_json(request, wanted)
    return EnrichedVocabulary.load(folder)


def _warn_about(tasks: "Tasks", eval_tasks: "Tasks | None") -> None:
    from tasc.corpus import shared_rows

    for part in (tasks, eval_tasks):
        if part is not None and part.n_skipped:
            _note(f"{part.source}: {part.n_skipped:,} bad rows skipped, the first: {part.skipped[0]}")
    if eval_tasks is not None and (shared := shared_rows(tasks, eval_tasks)):
        _note(
            f"{shared:,} distinct rows of {eval_tasks.source} also stand in {tasks.source}; the loss is too good by that"
        )


def _warn_about_launch() -> None:
    """`accelerate launch --cpu --num_processes N` starts one process, whatever N is (accelerate 1.15)."""
    asked_for_several = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_PORT" in os.environ
    if asked_for_several and "WORLD_SIZE" not in os.environ:
        _note(
            "accelerate launch --cpu starts a single process; for several: "
            "accelerate launch --multi_gpu --num_processes N -m tasc train --cpu ..."
        )


def _note(message: str) -> None:
    console.print(f"note: {message}", style="yellow", markup=False, soft_wrap=True)


def _ignore(message: str) -> None:
    """Other processes than the main one are silent."""


@contextmanager
def _shown() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Shows a run: a bar over its steps, a line with the losses now and then."""
    with ExitStack() as stack:
        yield _Screen(stack).show


class _Screen:
    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._advance: Callable[[int], None] | None = None
        self._step = 0
        self._last: dict[str, Any] = {}

    def show(self, record: dict[str, Any]) -> None:
        if self._advance is None:  # only the first record knows how many steps there are
            self._advance = self._stack.enter_context(progress("training", total=record["steps"], unit="steps"))
        self._advance(record["step"] - self._step)
        self._step = record["step"]
        self._last |= record
        every = max(1, record["steps"] // LINES_PER_RUN)
        if "eval_loss" in record or record["step"] % every == 0 or record["step"] == record["steps"]:
            console.print(_line(self._last | {"is_eval": "eval_loss" in record}), markup=False, soft_wrap=True)


def _line(record: dict[str, Any]) -> str:
    place = f"step {record['step']:,}/{record['steps']:,}  epoch {record['epoch']:.2f}"
    if record["is_eval"]:
        return f"{place}  eval loss {record['eval_loss']:.4f}  ({record['eval_nats_per_byte']:.4f} nats/byte)"
    return f"{place}  loss {record['loss']:.4f}  lr {record['lr']:.2e}  {record['tokens_per_s']:,.0f} tokens/s"


def _summary(report: "TrainReport") -> str:
    lines = [
        f"{report.out}: {report.steps:,} steps over {report.rows:,} rows in {report.seconds:,.0f} s",
        f"tokens per output  {report.tokens_per_output:.2f}  (base tokens {report.base_tokens_per_output:.2f})",
        f"trained            {report.trainable_parameters:,} numbers; the model has {report.parameters:,}",
    ]
    if report.loss is not None:
        lines.append(f"loss               {report.loss:.4f} nats/token")
    if report.eval_loss is not None:
        lines.append(f"eval loss          {report.eval_loss:.4f} nats/token  {report.eval_nats_per_byte:.4f} nats/byte")
    return "\n".join([*lines, f"next               tasc eval --model {report.out} --data TEST --metric ..."])
