"""Target models of the benchmarks: small models, trained from scratch on a task, as stand-ins for a pretrained SLM.

A machine without a GPU and without a model hub cannot fine-tune Qwen2.5-0.5B, so each corpus gets a byte-level BPE tokenizer
of its own and a Qwen2 model (or one of another family) of 2.5M or 4M parameters, trained on the task in base tokens. The
benchmarks fine-tune that target: once as it is (the baseline) and once for each enriched vocabulary, with the same number of
steps of the same rows.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, set_seed

from tasc.corpus import Row, Tasks, load_tasks, load_tokenizer
from tasc.train import finetune
from tasc.vocab import EnrichedVocabulary

SHARED = Path(os.environ.get("TASC_SHARED", Path(__file__).parents[2] / "shared"))
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
EOS = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Preset:
    """How one corpus is trained on two cores.

    Attributes:
        metric, headline: of `tasc.evals`.
        prompt_words: prompts are cut to their first words, so that a CPU can train on enough rows; 0 keeps them whole.
        target_steps, tuning_steps: optimizer steps; a corpus of 0 tuning steps has a target and no variants.
        rows: of an optimizer step. Small steps: what limits the quality here is the number of steps that a core has time for.
        family: of the model, as transformers names it.
        tokens: "own" for a tokenizer trained on the task, or a byte-level BPE one of the shared folder, of which the model
            gets the part that the task uses.
        shape: a key of `SHAPES`, for a model of published sizes with the whole of the tokenizer; "" goes by the sizes above.
        target_lr, tuning_lr: highest learning rates.
    """

    metric: str
    headline: str
    prompt_words: int
    target_steps: int
    tuning_steps: int
    rows: int = 32
    hidden_size: int = 256
    layers: int = 4
    vocab_size: int = 4000
    family: str = "qwen2"
    tokens: str = "own"
    shape: str = ""
    target_lr: float = 1.5e-3
    tuning_lr: float = 1e-3

    def sizes(self, n_tokens: int) -> dict[str, Any]:
        """The model's sizes, as its configuration names them."""
        if self.shape:
            return SHAPES[self.shape]
        return {
            "vocab_size": n_tokens,
            "hidden_size": self.hidden_size,
            "intermediate_size": 3 * self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.hidden_size // 32,
            "num_key_value_heads": self.hidden_size // 64,
        }


SHAPES = {
    # config.json of Qwen/Qwen2.5-0.5B, 494M parameters; the tokenizer leaves 271 of the rows unused
    "qwen2.5-0.5b": {
        "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    },
}  # fmt: skip

PRESETS = {
    "massive_en": Preset("intent-slots", "joint_accuracy", 0, 2400, 3600),
    "eurlex57k_short": Preset("multilabel", "micro_f1", 16, 1200, 1800, hidden_size=192),
    "medquad": Preset("text", "rouge_l", 0, 600, 0, rows=8, hidden_size=192),
}


def _half_a_billion(corpus: str) -> Preset:
    """A corpus' preset at the size of Qwen2.5-0.5B, for a GPU."""
    return replace(
        PRESETS[corpus], tokens="qwen2.5", shape="qwen2.5-0.5b", rows=32, target_steps=500, tuning_steps=500,
        target_lr=3e-4, tuning_lr=1e-4,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scale:
    """A size of target models, and how the models are decoded with and measured.

    Attributes:
        presets: by corpus.
        device, dtype: of decoding.
        batch_sizes: that are timed.
        quality_rows, quality_batch: test rows whose outputs are scored, and how many of them share a pass.
        timed_rows, rounds: of the comparison of fine-tuned models; 0 leaves their times to tasc_spec.py, which times them too.
        exact: every output must be that of plain decoding; otherwise outputs that rounding changes are counted.
        results: the folder of the JSON files.
    """

    presets: dict[str, Preset]
    device: str
    dtype: str
    batch_sizes: tuple[int, ...]
    quality_rows: int
    quality_batch: int
    timed_rows: int
    rounds: int
    exact: bool
    results: Path


RESULTS = Path(__file__).parent / "results"
SCALES = {
    "cpu": Scale(
        PRESETS, device="cpu", dtype="float32", batch_sizes=(1, 8), quality_rows=2000, quality_batch=32, timed_rows=160,
        rounds=5, exact=True, results=RESULTS,
    ),
    "qwen2.5-0.5b": Scale(
        {corpus: _half_a_billion(corpus) for corpus in ("massive_en", "eurlex57k_short")}, device="cuda",
        dtype="bfloat16", batch_sizes=(1, 8, 32), quality_rows=1000, quality_batch=128, timed_rows=0, rounds=0,
        exact=False, results=RESULTS / "gpu",
    ),
}  # fmt: skip


def stored(path: Path) -> dict[str, Any]:
    """The results that are there, by corpus."""
    return json.loads(path.read_text()) if path.exists() else {}


def shared_split(corpus: str, split: str, preset: Preset) -> Tasks:
    """One split of a corpus of the shared folder, prompts cut as the preset says."""
    path = SHARED / "data" / corpus / f"{split}.jsonl.gz"
    if not path.exists():
        raise SystemExit(f"{path}: missing; set TASC_SHARED to the folder that holds data/ and tokenizers/")
    tasks = load_tasks(path)
    if not preset.prompt_words:
        return tasks
    rows = [Row(" ".join(row.prompt.split()[: preset.prompt_words]), row.completion) for row in tasks]
    return Tasks(tuple(rows), tasks.source)


def train_tokenizer(tasks: Tasks, vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of the task's prompts and completions."""
    tokenizer = _byte_level()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*tasks.prompts, *tasks.completions], trainer)
    return _for_transformers(tokenizer)


def used_part(name: str, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The part of a byte-level BPE tokenizer of the shared folder that `texts` use: the same tokens for them, in other ids.

    A small model with the head of 151,665 rows that Qwen2.5 has would spend its time on rows that its task never needs.
    """
    whole = json.loads((SHARED / "tokenizers" / name / "tokenizer.json").read_text())["model"]
    pairs: Any = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in whole["merges"]]
    rank = {pair: k for k, pair in enumerate(pairs)}
    tokenizer = _byte_level()
    normalizer, splitter = tokenizer.normalizer, tokenizer.pre_tokenizer
    assert normalizer is not None
    assert splitter is not None
    pieces = {piece for text in texts for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    used = sorted({rank[pair] for piece in pieces for pair in _merges_of(piece, rank)})
    merges = [pairs[k] for k in used]
    spellings = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    tokenizer.model = models.BPE(vocab={text: k for k, text in enumerate(spellings)}, merges=merges)
    tokenizer.add_special_tokens([EOS])
    return _for_transformers(tokenizer)


def _merges_of(piece: str, rank: Mapping[tuple[str, ...], int]) -> Iterator[tuple[str, str]]:
    """The merges that BPE makes in one piece, in their order."""
    parts = list(piece)
    while len(parts) > 1:
        k = min(range(len(parts) - 1), key=lambda k: rank.get((parts[k], parts[k + 1]), len(rank)))
        pair = parts[k], parts[k + 1]
        if pair not in rank:
            return
        yield pair
        parts[k : k + 2] = ["".join(pair)]


def _byte_level() -> Tokenizer:
    """A BPE tokenizer with everything of Qwen2.5's but the tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _for_transformers(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=EOS, model_max_length=1024)


def tokenizer_of(corpus: str, preset: Preset) -> PreTrainedTokenizerFast:
    """The tokenizer of a corpus' target."""
    if preset.tokens == "own":
        return train_tokenizer(shared_split(corpus, "train", preset), preset.vocab_size)
    if preset.shape:
        tokenizer = load_tokenizer(SHARED / "tokenizers" / preset.tokens)
        tokenizer.eos_token = EOS  # as the base model has it; the folder is the chat model's
        return tokenizer
    splits = [shared_split(corpus, name, preset) for name in ("train", "validation", "test")]
    return used_part(preset.tokens, (text for tasks in splits for text in (*tasks.prompts, *tasks.completions)))


def train_target(
    corpus: str, folder: Path, *, preset: Preset | None = None, seed: int = 0, steps: int | None = None, **options: Any
) -> Path:
    """The target model of a corpus, trained now (by default for the preset's steps) unless `folder` holds it already.

    `options` are further ones of `tasc.train.finetune`.
    """
    if (folder / "model.safetensors").exists():
        return folder
    preset = preset or PRESETS[corpus]
    tasks = shared_split(corpus, "train", preset)
    tokenizer = tokenizer_of(corpus, preset)
    end_id = tokenizer.convert_tokens_to_ids(EOS)
    assert isinstance(end_id, int)
    set_seed(seed)
    config = AutoConfig.for_model(
        preset.family,
        **preset.sizes(len(tokenizer)),
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=end_id,
        pad_token_id=end_id,
        bos_token_id=None,
        sliding_window=None,
    )
    finetune(
        AutoModelForCausalLM.from_config(config), tasks, out=folder, tokenizer=tokenizer,
        eval_tasks=shared_split(corpus, "validation", preset), method="full", lr=preset.target_lr, warmup=0.05,
        max_steps=steps or preset.target_steps, batch_size=preset.rows, effective_batch=preset.rows, template="plain", seed=seed, on_record=print_record,
        **options,
    )  # fmt: skip
    return folder


def fine_tune(
    corpus: str,
    target: Path,
    folder: Path,
    *,
    preset: Preset | None = None,
    vocabulary: EnrichedVocabulary | None = None,
    seed: int = 0,
    steps: int | None = None,
    n_rows: int | None = None,
    **options: Any,
) -> None:
    """Fine-tune the target, by default for the preset's steps and on all rows; a finished `folder` stays as it is.

    `options` are further ones of `tasc.train.finetune`.
    """
    preset = preset or PRESETS[corpus]
    finetune(
        target, shared_split(corpus, "train", preset)[:n_rows], out=folder, vocabulary=vocabulary,
        eval_tasks=shared_split(corpus, "validation", preset), method="full", lr=preset.tuning_lr, warmup=0.05,
        max_steps=steps or preset.tuning_steps, batch_size=preset.rows, effective_batch=preset.rows, template="plain", seed=seed,
        on_record=print_record, **options,
    )  # fmt: skip


def print_record(record: dict[str, Any]) -> None:
    numbers = " ".join(f"{k} {v:.4g}" for k, v in record.items() if isinstance(v, float))
    print(f"  step {record.get('step')}/{record.get('steps')} {numbers}", flush=True)
