"""First half of tasc_spec.py: the models, the drafters and the ways to decode that are compared."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _models import Preset, Scale, shared_split
from tasc_ft import trained_variants

from tasc.corpus import Row, Tasks, Template, TokenCorpus, make_template
from tasc.decode import (
    Completions,
    Generated,
    LoadedModel,
    Timing,
    complete,
    default_max_new_tokens,
    end_ids,
    generate,
    load_model,
)
from tasc.decode.drafting import summary
from tasc.decode.hf import speculative
from tasc.decode.profile import profile
from tasc.draft.adaptive import adaptive
from tasc.draft.build import build_drafter
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.drafter import Drafter
from tasc.draft.index import Index
from tasc.draft.paper import PaperDrafter
from tasc.draft.recorded import Recorded
from tasc.replay.peers import NGrammys, PromptLookup, SuffixDecoding
from tasc.replay.simulate import replay_log
from tasc.vocab.tokenizer import load_base_tokenizer

MAX_DRAFT = 10  # of the rivals, who verify whole drafts
MEDQUAD_LIMIT = 256  # a small model of free text repeats itself without end
# every draft is verified as a whole, whatever it costs: how the rivals and the paper's method work
ALL_OF_IT = StepCost((1, 2), (1,), (0,), [[[1.0, 1.0]]], draft_ms=0.0)
LAMBDAS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
BUDGETS = (500, 2000)  # n-grams of the fine-tuned models that are timed, as far as they were trained
ADAPT = True  # the default drafter's weights follow what the model writes

Complete = Callable[[Sequence[Row], int, Any], Completions]


@dataclass(frozen=True, slots=True)
class Target:
    """A model to decode with."""

    folder: Path
    loaded: LoadedModel
    template: Template

    @classmethod
    def load(cls, folder: Path, scale: Scale) -> "Target":
        loaded = load_model(folder, device=scale.device, dtype=scale.dtype)
        return cls(folder, loaded, make_template(loaded.tokenizer, "plain"))

    def about(self) -> dict[str, Any]:
        config = self.loaded.model.config
        return {
            "folder": "/".join(self.folder.parts[-2:]),
            "parameters": self.loaded.model.num_parameters(),
            "hidden_size": config.hidden_size,
            "layers": config.num_hidden_layers,
            "vocabulary": config.vocab_size,
            "dtype": str(self.loaded.model.dtype).removeprefix("torch."),
        }

    @property
    def n_ids(self) -> int:
        return self.loaded.model.config.vocab_size

    def outputs(self, tasks: Tasks) -> TokenCorpus:
        """Ids of the rows' completions as this model writes them, without end token."""
        corpus = TokenCorpus.from_rows(self.template.encode_completions(list(tasks.completions)))
        return corpus if self.loaded.vocabulary is None else self.loaded.vocabulary.merge_corpus(corpus)


@dataclass(frozen=True, slots=True)
class Setup:
    """One corpus: its models, its rows and where drafters are kept."""

    corpus: str
    folder: Path
    scale: Scale
    targets: dict[str, Target]
    train: Tasks
    validation: Tasks
    test: Tasks
    limit: int
    drafters: dict[str, tuple[Drafter, StepCost]] = field(default_factory=dict)

    @classmethod
    def make(cls, corpus: str, work: Path, scale: Scale) -> "Setup":
        preset: Preset = scale.presets[corpus]
        models = work / "tasc_ft" / corpus
        targets = {"base": Target.load(models / ("m0-s0" if preset.tuning_steps else "target"), scale)}
        for variant in trained_variants(corpus, work / "tasc_ft"):
            if variant.budget in BUDGETS and variant.seed == 0:
                targets[f"ft, M={variant.budget}"] = Target.load(variant.folder(work / "tasc_ft"), scale)
        train, validation, test = (shared_split(corpus, split, preset) for split in ("train", "validation", "test"))
        picked = np.random.default_rng(1).permutation(len(test))
        rows = Tasks(tuple(test[int(k)] for k in picked), test.source)
        limit = default_max_new_tokens(targets["base"].template, rows.rows) if preset.tuning_steps else MEDQUAD_LIMIT
        folder = work / "tasc_spec" / corpus
        folder.mkdir(parents=True, exist_ok=True)
        return cls(corpus, folder, scale, targets, train, validation, rows, limit)

    def rows(self, n: int) -> Tasks:
        return Tasks(self.test[:n].rows, self.test.source)

    def drafter(self, name: str) -> Path:
        """The drafter file of a target."""
        return self.folder / f"{self.targets[name].folder.name}.tasc"


@dataclass(slots=True)
class Contender:
    """One way to decode.

    Attributes:
        name: in the table.
        kind: "plain", "rival" or "tasc".
        target: of `Setup.targets`; all contenders with the same one must write the same outputs.
        complete: rows, batch size, progress -> completions.
        batch_sizes: what it can do; None for all.
        weight: lambda, for the sweep.
        done: the last completions at each batch size.
        differing: at each batch size, rows whose outputs are not those of plain decoding and the widest gap between the two
            logits where one parts (`gap_between`).
    """

    name: str
    kind: str
    target: str
    complete: Complete
    batch_sizes: tuple[int, ...] | None = None
    weight: float | None = None
    done: dict[int, Completions] = field(default_factory=dict)
    differing: dict[int, tuple[int, float]] = field(default_factory=dict)

    def drafts(self, batch: int) -> dict[str, Any]:
        """What the drafts did at a batch size, as far as the loop counts it."""
        generated = self.done[batch].generated
        tokens = sum(map(len, generated.outputs)) + sum(generated.ended)
        found: dict[str, Any] = {
            "tokens_per_output": tokens / len(generated.outputs),
            "passes_per_output": generated.passes_per_output,
            "tokens_per_pass": tokens / sum(generated.passes),
            "unfinished": generated.ended.count(False) / len(generated.ended),
        }
        if not generated.requests:
            return found
        of_drafts = summary(generated.requests)
        return found | {name: of_drafts[name] for name in ("drafted_per_pass", "draft_ms_per_output", "by_position")}


def contenders(setup: Setup, left_out: Collection[str] = ()) -> list[Contender]:
    """Everything that is compared on a corpus, plain decoding first; rivals that are left out are not made."""
    base = setup.targets["base"]
    outputs = base.outputs(setup.train)
    eos_id = base.template.eos_id
    table = cache(lambda: most_likely_next(base.loaded.model))
    index = Index.build(outputs, start_id=base.n_ids, eos_id=eos_id)
    ended = [[*ids.tolist(), eos_id] for ids in outputs]
    rivals: dict[str, Callable[[], Any]] = {
        "prompt lookup, our loop": lambda: PromptLookup(eos_id=eos_id),
        "N-Grammys, bigrams": lambda: NGrammys(table(), eos_id=eos_id),
        "N-Grammys, mixed": lambda: NGrammys(table(), eos_id=eos_id, max_ngram=3),
        "SuffixDecoding, vLLM's defaults": lambda: SuffixDecoding(ended),
        "SuffixDecoding, best options": lambda: SuffixDecoding(
            ended, max_tree_depth=64, max_spec_factor=4.0, min_token_prob=0.0
        ),
        "SuffixDecoding, trees": lambda: SuffixDecoding(
            ended, max_tree_depth=64, max_spec_factor=8.0, min_token_prob=0.0, tree=True
        ),
        "paper's method": lambda: PaperDrafter(index, lam=0.75),
        "paper's method, corpus only": lambda: PaperDrafter(index, lam=1.0),
    }
    found = [
        Contender("plain", "plain", "base", plain(base, setup.limit)),
        Contender("transformers, plain", "plain", "base", by_transformers(base, setup.limit)),
        Contender(
            "transformers, prompt lookup", "rival", "base",
            by_transformers(base, setup.limit, prompt_lookup_num_tokens=MAX_DRAFT), batch_sizes=(1,),
        ),
    ]  # fmt: skip
    for name, make in rivals.items():
        if name not in left_out:
            found.append(Contender(name, "rival", "base", with_drafts(base, setup.limit, make(), ALL_OF_IT)))
    found.append(Contender("spec", "tasc", "base", spec(setup, "base")))
    found.append(
        Contender("spec, chains", "tasc", "base", with_drafts(base, setup.limit, *setup.drafters["base"], tree=False))
    )
    for name in list(setup.targets)[1:]:
        found.append(Contender(name, "tasc", name, plain(setup.targets[name], setup.limit)))
        found.append(Contender(f"{name} + spec", "tasc", name, spec(setup, name)))
    return found


def lambda_contenders(setup: Setup) -> list[Contender]:
    """Plain decoding and the paper's method at several weights of the corpus."""
    base = setup.targets["base"]
    index = Index.build(base.outputs(setup.train), start_id=base.n_ids, eos_id=base.template.eos_id)
    found = [Contender("plain", "plain", "base", plain(base, setup.limit))]
    for weight in LAMBDAS:
        run = with_drafts(base, setup.limit, PaperDrafter(index, lam=weight), ALL_OF_IT)
        found.append(Contender(f"lambda {weight:g}", "rival", "base", run, batch_sizes=(1,), weight=weight))
    return found


def spec(setup: Setup, name: str) -> Complete:
    """The default drafter, drafts as long as this model's passes make them pay."""
    target = setup.targets[name]
    vocabulary = target.loaded.vocabulary
    tokenizer = target.loaded.tokenizer if vocabulary is None else load_base_tokenizer(target.folder)
    drafter = build_drafter(setup.train.rows, tokenizer, vocabulary=vocabulary, template="plain")
    drafter.save(setup.drafter(name))
    cost = profile(target.loaded.model, batch_sizes=setup.scale.batch_sizes)
    cost.save(setup.folder / f"{target.folder.name}-cost.json")
    drafter = Drafter.load(setup.drafter(name))
    setup.drafters[name] = drafter, cost
    return with_drafts(target, setup.limit, drafter, cost)


def replayed(setup: Setup, name: str, rows: Tasks, batch: int) -> dict[str, Any]:
    """Decode and record, then replay the log without the model: both must take the same passes."""
    target, (drafter, cost) = setup.targets[name], setup.drafters[name]
    log: list[Recorded] = []
    drafting = speculative(drafter, cost=cost, adapt=ADAPT, vocabulary=target.loaded.vocabulary, record=log.extend)
    generate(
        target.loaded.model, target.template.encode_prompts(rows.rows), drafter=drafting, batch_size=batch,
        max_new_tokens=setup.limit, eos_id=end_ids(target.loaded.model, target.template),
        pad_id=target.template.eos_id, vocabulary=target.loaded.vocabulary,
    )  # fmt: skip
    found = replay_log(adaptive(drafter), log, control=Control(cost, max_draft=drafting.max_draft))
    for recorded, again in zip(log, found.requests, strict=True):
        if not recorded.took_the_passes_of(again):
            raise SystemExit(f"{name}, batch {batch}: replay took other passes than decoding: {again} for {recorded}")
    return {"target": name, "batch_size": batch, "passes": found.passes, "predicted_speed_up": found.predicted_speedup}


def in_float32(setup: Setup, rows: Tasks, batch: int) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
    """For each model the outputs of plain decoding and of decoding with every draft verified as a whole."""
    for name, target in setup.targets.items():
        drafter = Drafter.load(setup.drafter(name))
        ways = plain(target, setup.limit), with_drafts(target, setup.limit, drafter, ALL_OF_IT)
        one, other = (way(rows.rows, batch, lambda _: None).generated.outputs for way in ways)
        yield one, other


@torch.inference_mode()
def gap_between(target: Target, pairs: Sequence[tuple[Row, list[int], list[int]]]) -> float:
    """The widest gap, among rows with two outputs, between the logits of the two tokens at which these part.

    Both are the choice of the same model at that place, so what parts them is rounding if the gap is of its order.
    """
    model, widest = target.loaded.model, 0.0
    for row, one, other in pairs:
        eos_id = target.template.eos_id
        first, second = [*one, eos_id], [*other, eos_id]
        place = next(k for k, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
        ids = target.template.encode_prompts([row])[0] + one[:place]
        logits = model(torch.tensor([ids], device=model.device)).logits[0, -1].float()
        widest = max(widest, float((logits[first[place]] - logits[second[place]]).abs()))
    return widest


def plain(target: Target, limit: int) -> Complete:
    return _completer(target, limit, None)


def with_drafts(target: Target, limit: int, drafter: Any, cost: StepCost, *, tree: bool = True) -> Complete:
    """Our loop with any drafter; each round begins with what the drafter's file says."""
    whole = cost is ALL_OF_IT
    drafting = speculative(
        drafter, max_draft=MAX_DRAFT if whole else None, cost=cost, switch_off=not whole, tree=tree, adapt=ADAPT,
        vocabulary=target.loaded.vocabulary,
    )  # fmt: skip
    return _completer(target, limit, drafting)


def _completer(target: Target, limit: int, drafting: Any) -> Complete:
    def run(rows: Sequence[Row], batch_size: int, advance: Any) -> Completions:
        return complete(
            target.loaded.model, target.loaded.tokenizer, rows, vocabulary=target.loaded.vocabulary,
            template=target.template, batch_size=batch_size, max_new_tokens=limit, drafting=drafting, progress=advance,
        )  # fmt: skip

    return run


def by_transformers(target: Target, limit: int, **options: Any) -> Complete:
    """`model.generate`, stock; rows in the order in which our loop takes them, so that batches are the same."""
    model: Any = target.loaded.model
    template = target.template
    ends = sorted(end_ids(model, template))

    def continued(prompts: list[list[int]], most: int) -> list[list[int]]:
        width = max(map(len, prompts))
        ids = torch.tensor([[template.eos_id] * (width - len(p)) + p for p in prompts], device=model.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        found = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=most, do_sample=False, eos_token_id=ends,
            pad_token_id=template.eos_id, **options,
        )  # fmt: skip
        return [_with_end(line, ends) for line in found[:, width:].tolist()]

    def run(rows: Sequence[Row], batch_size: int, advance: Any) -> Completions:
        prompts = template.encode_prompts(rows)
        order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
        continued([prompts[row] for row in order[:batch_size]], 4)  # warm-up
        found: dict[int, list[int]] = {}
        passes: dict[int, int] = {}
        seconds = []
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            with counted(model) as calls:
                begin = time.perf_counter()
                outputs = continued([prompts[row] for row in chosen], limit)
                seconds.append(time.perf_counter() - begin)
            found |= dict(zip(chosen, outputs, strict=True))
            # rows that have ended stay in transformers' batch, but need no pass of their own
            passes |= {row: min(len(ids), calls[0]) for row, ids in zip(chosen, outputs, strict=True)}
            advance(len(chosen))
        return _completions(target, [found[row] for row in range(len(rows))], passes, seconds, ends)

    return run


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """Counts the calls of a model inside the block."""
    calls = [0]

    def count(*_: Any) -> None:
        calls[0] += 1

    hook = model.register_forward_hook(count)
    try:
        yield calls
    finally:
        hook.remove()


def _with_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """Up to the end token, which stays."""
    return next((ids[: place + 1] for place, token in enumerate(ids) if token in ends), ids)


def _completions(
    target: Target, outputs: list[list[int]], passes: dict[int, int], seconds: list[float], ends: Sequence[int]
) -> Completions:
    ended = [ids[-1] in ends for ids in outputs]
    ids = [line[:-1] if end else line for line, end in zip(outputs, ended, strict=True)]
    ms = 1000 * sum(seconds) / len(outputs)
    generated = Generated(ids, [passes[row] for row in range(len(outputs))], [math.nan] * len(ids), ended, seconds)
    texts = [str(target.loaded.tokenizer.decode(line, skip_special_tokens=True)) for line in ids]
    return Completions(texts, list(map(len, ids)), generated, Timing((ms,)), None, {})


@torch.inference_mode()
def most_likely_next(model: Any) -> np.ndarray:
    """N-Grammys' table: for each token the one that the model finds most likely after it alone, int64[vocabulary]."""
    n_ids = model.config.vocab_size
    every = torch.arange(n_ids, device=model.device)
    found = [model(some[:, None]).logits[:, -1].argmax(-1) for some in every.split(4096)]
    return torch.cat(found).cpu().numpy()
