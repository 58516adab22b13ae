"""Fine-tune a causal language model on a task, with or without an enriched vocabulary, and write one plain checkpoint.

What it does: rows for the n-grams, LoRA or full training through transformers' Trainer with the paper's settings, resume
after a kill, merge, save. What it does not: mine n-grams (`tasc.vocab`), generate (`tasc.decode`), judge (`tasc.evals`).

Source: TASC (arXiv 2602.24174, section 3.1 and its appendix on training).
"""

import dataclasses
import hashlib
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainingArguments, set_seed

from tasc.corpus import Tasks, Template, fingerprint, load_held_out, load_tasks, load_tokenizer, make_template
from tasc.corpus.tokenizer import drop_chat_template
from tasc.errors import FingerprintError, ModelError, OptionError
from tasc.train import loading
from tasc.train.adapters import Method, TrainRows, load_trainable_state, merge, prepare, trainable_state
from tasc.train.examples import Examples, PlannedVisits, encode_examples, plan
from tasc.train.folder import RunFolder, checkpoint_step, cut_metrics, digest_of_tasks
from tasc.train.options import EVAL_ROWS, Batches, Options, Precision
from tasc.train.report import TrainReport, read_metrics
from tasc.train.surgery import DEFAULT_INIT, Init, RowsReport, add_rows
from tasc.train.trainer import TRAINED_FILE, OnRecord, Recorder, RunTrainer, StopOnSignal
from tasc.vocab.tokenizer import base_of, holds_ngrams, write_tokenizer
from tasc.vocab.vocabulary import EnrichedVocabulary

OnNote = Callable[[str], None]

CHECKS_PER_RUN = 10  # evaluations and checkpoints by default


class TrainingInterrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM ended a run after a step; its checkpoint is written and the same call resumes it.

    Attributes:
        step: optimizer steps done.
        steps: optimizer steps of the whole run.
    """

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped after step {step} of {steps}")
        self.step, self.steps = step, steps


def finetune(
    model: str | os.PathLike[str] | PreTrainedModel,
    tasks: str | os.PathLike[str] | Tasks,
    *,
    out: str | os.PathLike[str],
    eval_tasks: str | os.PathLike[str] | Tasks | None = None,
    vocabulary: EnrichedVocabulary | None = None,
    tokenizer: PreTrainedTokenizerFast | None = None,
    template: str = "auto",
    method: Method = "lora",
    train_rows: TrainRows = "all",
    init: Init = DEFAULT_INIT,
    lora_r: int = 16,
    lora_alpha: int = 16,
    lora_dropout: float = 0.2,
    lr: float = 2e-4,
    weight_decay: float = 0.0,
    warmup: float = 0.0,
    epochs: float = 3.0,
    max_steps: int = -1,
    batch_size: int = 8,
    effective_batch: int = 64,
    merge_dropout: float = 0.0,
    max_length: int = 0,
    precision: Precision = "auto",
    gradient_checkpointing: bool = False,
    eval_rows: int = EVAL_ROWS,
    eval_every: int = 0,
    save_every: int = 0,
    seed: int = 0,
    cpu: bool = False,
    trust_remote_code: bool = False,
    overwrite: bool = False,
    on_record: OnRecord | None = None,
    on_note: OnNote | None = None,
) -> TrainReport:
    """Fine-tune a model on a task's rows and write the merged checkpoint with its tokenizer.

    A call over the folder of an unfinished run with the same options resumes it from its last complete checkpoint and
    ends as the uninterrupted run would have; over a finished one it returns the stored report. Under
    `accelerate launch` the processes share the work (data parallel).

    Args:
        model: folder or Hub name of a decoder-only model, or a model in memory, which is then changed in place.
        tasks: training rows, or where `tasc.load_tasks` finds them.
        out: run folder; `tasc.train.folder` says what it holds.
        eval_tasks: rows for the evaluation loss, so too; of a folder its split `validation`.
        vocabulary: n-grams to add; None fine-tunes the model as it is, with the n-grams that it has already if it is a
            folder of `tasc train`.
        tokenizer: base tokenizer; by default the one beside `model`.
        template: "auto", "chat", "plain" or a Jinja file.
        method: "lora", "qlora" (4-bit base; needs bitsandbytes and `model` as a name) or "full".
        train_rows: "all" trains embedding and head as the paper does, "new" only the n-grams' rows (base rows stay
            bit-equal), "none" neither.
        init: how new rows begin; see `tasc.train.surgery.add_rows`.
        lora_r: rank of the updates.
        lora_alpha: their scale, times the rank.
        lora_dropout: dropout in front of them.
        lr: highest learning rate of AdamW, which falls linearly to 0.
        weight_decay: of AdamW.
        warmup: share of the steps over which the rate rises, in [0, 1).
        epochs: passes over the rows.
        max_steps: optimizer steps instead of epochs, if positive.
        batch_size: rows per device and forward pass.
        effective_batch: rows per optimizer step, over all devices.
        merge_dropout: probability that an occurrence of an n-gram is left in base ids, drawn anew in every epoch.
        max_length: tokens per example; longer prompts are cut from the left. 0 takes the model's positions, at most 2048.
        precision: "auto" computes in bfloat16 on GPUs that have it, else in float32.
        gradient_checkpointing: recompute activations to save memory.
        eval_rows: at most so many rows of `eval_tasks`, the first ones.
        eval_every: steps between evaluations; 0 for ten in the run.
        save_every: steps between checkpoints; 0 for ten in the run.
        seed: of initial adapters, dropout, order and merge dropout.
        cpu: leave a GPU unused.
        trust_remote_code: let `model` bring its own code.
        overwrite: replace a finished run or one with other options.
        on_record: called with each line of metrics.jsonl and the number of `steps` in all; in the main process alone.
        on_note: called with what people should know before the training begins, such as prompts that were cut.

    Returns:
        The report, which run.json keeps as well.

    Raises:
        OptionError: options out of range, or other than those of the run in `out`, or another run is at work there.
        ModelError: the model cannot be used.
        DataError: no row fits into max_length.
        FingerprintError: the vocabulary was made with another tokenizer.
        TokenizerError: beside this model the tokenizer would give other ids.
        MissingExtraError: qlora without bitsandbytes.
        TrainingInterrupted: SIGINT or SIGTERM came; the checkpoint is written.
    """
    given = locals()
    if isinstance(tasks, str | os.PathLike):
        tasks = load_tasks(tasks)
    if isinstance(eval_tasks, str | os.PathLike):
        eval_tasks = load_held_out(eval_tasks)
    options = Options(**{field.name: given[field.name] for field in dataclasses.fields(Options)})
    _refuse_sharding()
    processes = PartialState(cpu=True) if cpu else PartialState()
    _refuse_own_folder(model, Path(out))
    inherited = _ngrams_of(model, options)
    if inherited is not None:
        if vocabulary is not None and vocabulary.digest != inherited.digest:
            raise OptionError(
                f"{model} has n-grams of its own and cannot take others; train it further without a vocabulary, or begin "
                "with the model that it was made from"
            )
        vocabulary = inherited
    tokenizer = tokenizer or _tokenizer_of(model)
    _check_fingerprint(tokenizer, vocabulary)
    loading.check_stock_tokenizer(tokenizer, loading.config_of(model, options))
    identity = _identity(options, model, tasks, vocabulary, tokenizer) | {"processes": processes.num_processes}
    folder = RunFolder(Path(out), identity)
    if not overwrite:
        folder.check()
        if (stored := folder.finished_report()) is not None:
            return TrainReport.from_json(stored)
    main = processes.is_main_process
    tell = Listeners((on_record if main else None) or _nobody, (on_note if main else None) or _nobody)
    run = Run(model, tokenizer, vocabulary, inherited is None, options, folder, overwrite, processes, tell)
    with folder.locked() if main else nullcontext():
        return run.complete(tasks, eval_tasks)


def _nobody(message: Any) -> None:
    """A listener that does not listen."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who hears of a run's progress."""

    record: OnRecord
    note: OnNote


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what all its stages share. `needs_rows`: the model has no rows for the n-grams yet."""

    model: str | os.PathLike[str] | PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    vocabulary: EnrichedVocabulary | None
    needs_rows: bool
    options: Options
    folder: RunFolder
    overwrite: bool
    processes: PartialState
    tell: Listeners

    def complete(self, tasks: Tasks, eval_tasks: Tasks | None) -> TrainReport:
        """Train what is left to train, merge, save, report."""
        began = time.perf_counter()
        template = make_template(self.tokenizer, self.options.template)
        max_length = loading.max_length(self.model, self.options)
        train = self.encode(tasks, template, max_length, merge_dropout=self.options.merge_dropout)
        held_out = eval_tasks[: self.options.eval_rows] if eval_tasks is not None else None
        evaluation = self.encode(held_out, template, max_length) if held_out else None
        self.warn(train, max_length)
        batches = Batches.of(self.options, rows=len(train), processes=self.processes.num_processes)
        order = plan(train.lengths, n_visits=batches.visits, batch_size=batches.size, seed=self.options.seed)

        set_seed(self.options.seed)  # the adapters' first values
        base, dtype = loading.load_model(self.model, self.options)
        use_cache = getattr(base.config, "use_cache", None)
        rows = self.add_rows(base)
        learner = self.dress(base, self.options.method)
        trainable = sum(p.numel() for p in learner.parameters() if p.requires_grad)
        self.open_folder()
        resumed_from = self.train(learner, PlannedVisits(train, order), evaluation, batches)

        merged = self.merge(learner, dtype)
        if use_cache is not None:
            merged.config.use_cache = use_cache  # the Trainer switches it off
        if self.processes.is_main_process:
            files = self.save(merged, template)
            report = TrainReport(
                **self.sizes(train, evaluation, batches),
                **read_metrics(self.folder.metrics),
                trainable_parameters=trainable,
                parameters=sum(p.numel() for p in merged.parameters()),
                seconds=time.perf_counter() - began,
                resumed_from=resumed_from,
                rows_report=rows,
            )
            self.folder.finish(report.to_json(), files=files)
        self.processes.wait_for_everyone()
        stored = self.folder.finished_report()
        assert stored is not None
        return TrainReport.from_json(stored)

    def open_folder(self) -> None:
        """Begin or resume in the folder; after all that can fail at once, because an overwritten run is gone then."""
        if self.processes.is_main_process:
            self.folder.open(overwrite=self.overwrite)
        self.processes.wait_for_everyone()

    def sizes(self, train: Examples, evaluation: Examples | None, batches: Batches) -> dict[str, Any]:
        """The part of the report that is known before training."""
        return dict(
            out=str(self.folder.path),
            steps=batches.steps,
            epochs=batches.visits / len(train),
            rows=len(train),
            eval_rows=0 if evaluation is None else len(evaluation),
            prompts_cut=train.n_cut,
            rows_left_out=train.n_left_out,
            tokens_per_output=1 + train.targets.n_tokens / len(train),
            base_tokens_per_output=1 + train.completions.n_tokens / len(train),
        )

    def encode(self, tasks: Tasks, template: Template, max_length: int, *, merge_dropout: float = 0.0) -> Examples:
        """A split as ids."""
        return encode_examples(
            tasks,
            template,
            vocabulary=self.vocabulary,
            merge_dropout=merge_dropout,
            seed=self.options.seed,
            max_length=max_length,
        )

    def warn(self, train: Examples, max_length: int) -> None:
        """Say what does not fit."""
        if train.n_cut:
            self.tell.note(
                f"{train.n_cut:,} of {len(train):,} prompts are longer than --max-length {max_length} allows "
                "and lost their left end"
            )
        if train.n_left_out:
            self.tell.note(
                f"{train.n_left_out:,} rows were left out: their output alone exceeds --max-length {max_length}"
            )

    def add_rows(self, base: PreTrainedModel) -> RowsReport | None:
        """Rows for the n-grams, if there are any without."""
        if self.vocabulary is None or not self.needs_rows:
            return None
        return add_rows(base, self.vocabulary, init=self.options.init)

    def dress(self, base: PreTrainedModel, method: Method) -> PreTrainedModel | PeftModel:
        """The base model with what learns."""
        new_rows = range(self.vocabulary.base_size, self.vocabulary.size) if self.vocabulary is not None else range(0)
        return prepare(
            base,
            method=method,
            train_rows=self.options.train_rows,
            new_rows=new_rows,
            lora_r=self.options.lora_r,
            lora_alpha=self.options.lora_alpha,
            lora_dropout=self.options.lora_dropout,
        )

    def train(
        self,
        learner: PreTrainedModel | PeftModel,
        visits: PlannedVisits,
        evaluation: Examples | None,
        batches: Batches,
    ) -> int:
        """Train from the last complete checkpoint to the last step; returns the step it began with."""
        checkpoint = self.folder.last_checkpoint()
        first_step = checkpoint_step(checkpoint) if checkpoint is not None else 0
        if checkpoint is not None:
            self.tell.note(f"resuming from step {first_step} of {batches.steps}")
        if checkpoint is not None and first_step == batches.steps:
            load_trainable_state(learner, load_file(checkpoint / TRAINED_FILE))
            return first_step
        main = self.processes.is_main_process
        if main:
            cut_metrics(self.folder.metrics, last_step=first_step)
        stop = StopOnSignal()
        recorder = Recorder(
            self.folder.metrics if main else None,
            visits,
            batches.effective,
            self.tell.record,
        )
        trainer = RunTrainer(
            learner,
            self.arguments(batches, evaluates=evaluation is not None),
            visits=visits,
            eval_examples=evaluation,
            callbacks=[recorder, stop],
        )
        with stop.listening():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
        if stop.stopped:
            raise TrainingInterrupted(trainer.state.global_step, batches.steps)
        return first_step

    def arguments(self, batches: Batches, *, evaluates: bool) -> TrainingArguments:
        """The Trainer's arguments for this run."""
        every = math.ceil(batches.steps / CHECKS_PER_RUN)
        arguments = TrainingArguments(
            output_dir=str(self.folder.checkpoints),
            max_steps=batches.steps,
            per_device_train_batch_size=batches.size,
            per_device_eval_batch_size=batches.size,
            gradient_accumulation_steps=batches.accumulation,
            learning_rate=self.options.lr,
            weight_decay=self.options.weight_decay,
            warmup_steps=self.options.warmup,
            lr_scheduler_type="linear",
            bf16=loading.computes_in_bf16(self.options),
            logging_steps=1,
            logging_nan_inf_filter=False,  # it would show a loss that is not finite as 0
            eval_strategy="steps" if evaluates else "no",
            eval_steps=self.options.eval_every or every,
            save_strategy="steps",
            save_steps=self.options.save_every or every,
            seed=self.options.seed,
            use_cpu=self.options.cpu or not torch.accelerator.is_available(),
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=torch.cuda.is_available() and not self.options.cpu,
            ddp_find_unused_parameters=False,
        )
        if arguments.n_gpu > 1:
            arguments._n_gpu = 1  # several GPUs are for `accelerate launch`, not for the Trainer's DataParallel
        return arguments

    def merge(self, learner: PreTrainedModel | PeftModel, dtype: torch.dtype) -> PreTrainedModel:
        """What was trained, folded into one plain model of the checkpoint's dtype."""
        if self.options.method != "qlora":
            return merge(learner, dtype=dtype)
        trained = trainable_state(learner)
        base = loading.load_for_merge(self.model, self.options)
        self.add_rows(base)
        plain = self.dress(base, "lora")  # 4-bit training wraps the same layers under the same names
        load_trainable_state(plain, trained)
        return merge(plain, dtype=dtype)

    def save(self, merged: PreTrainedModel, template: Template) -> list[str]:
        """Write model, tokenizer and vocabulary; returns the names of the files."""
        _end_at(merged, template.eos_id)
        with self.folder.staging() as staging, loading.no_bars():
            merged.save_pretrained(staging)
            if self.vocabulary is None:
                self.tokenizer.save_pretrained(staging)
            else:
                style = self.vocabulary.options.get("style", "vocabulary")
                write_tokenizer(self.tokenizer, self.vocabulary, staging, style=style)  # with enriched.json
            if template.name == "plain":
                drop_chat_template(staging)
            elif template.name != "chat":
                (staging / "chat_template.jinja").write_text(template.chat_template or "", encoding="utf-8")
            return [file.name for file in staging.iterdir()]


def _end_at(model: PreTrainedModel, eos_id: int) -> None:
    """Let stock `generate` stop where the targets ended, besides where the base model did."""
    config = model.generation_config
    if config is None:
        return
    known = config.eos_token_id
    known = [] if known is None else known if isinstance(known, list) else [known]
    ends = [eos_id, *(t for t in known if t != eos_id)]
    config.eos_token_id = ends if len(ends) > 1 else eos_id


def _refuse_sharding() -> None:
    for variable, name in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
        if os.environ.get(variable, "false").lower() == "true":
            raise OptionError(
                f"{name} is not supported: merging needs whole matrices; launch with data parallelism alone"
            )


def _tokenizer_of(model: str | os.PathLike[str] | PreTrainedModel) -> PreTrainedTokenizerFast:
    if isinstance(model, PreTrainedModel):
        raise OptionError("a model in memory has no tokenizer beside it; pass tokenizer=")
    return load_tokenizer(base_of(model))


def _refuse_own_folder(model: str | os.PathLike[str] | PreTrainedModel, out: Path) -> None:
    if not isinstance(model, PreTrainedModel) and out.exists() and Path(model).resolve() == out.resolve():
        raise OptionError(f"{out} is the folder of the model that is trained; choose another folder for the run")


def _ngrams_of(model: str | os.PathLike[str] | PreTrainedModel, options: Options) -> EnrichedVocabulary | None:
    """The n-grams that the model of a folder was trained with."""
    if isinstance(model, PreTrainedModel) or not holds_ngrams(model):
        return None
    vocabulary = EnrichedVocabulary.load(os.fspath(model))
    rows = loading.config_of(model, options).get_text_config().vocab_size
    if vocabulary.size > rows:
        raise ModelError(
            f"{model}: its vocabulary has {vocabulary.size} ids, the model {rows} rows, so the model was not trained with "
            "these n-grams; put its own tokenizer back with tasc.vocab.remove_ngrams, and pass the n-grams as the vocabulary"
        )
    return vocabulary


def _check_fingerprint(tokenizer: PreTrainedTokenizerFast, vocabulary: EnrichedVocabulary | None) -> None:
    if vocabulary is None or not vocabulary.fingerprint:
        return
    found = fingerprint(tokenizer)
    if found != vocabulary.fingerprint:
        raise FingerprintError(
            f"the vocabulary was made with tokenizer {vocabulary.fingerprint}, the model's is {found}; "
            "run 'tasc enrich' with the model's tokenizer"
        )


def _identity(
    options: Options,
    model: str | os.PathLike[str] | PreTrainedModel,
    tasks: Tasks,
    vocabulary: EnrichedVocabulary | None,
    tokenizer: PreTrainedTokenizerFast,
) -> dict[str, Any]:
    """All that the trained weights depend on."""
    made_from = {
        "data": tasks.source,
        "data_digest": digest_of_tasks(tasks),
        "vocabulary": None if vocabulary is None else vocabulary.digest,
        "tokenizer": fingerprint(tokenizer),
        "bf16": loading.computes_in_bf16(options),
    }
    if jinja := make_template(tokenizer, options.template).chat_template:
        made_from["chat_template"] = hashlib.sha256(jinja.encode()).hexdigest()
    return loading.identity_of(model) | made_from | options.deciding()
