"""Train the small base model that `tasc demo` fine-tunes, and write it into the package's assets.

    python scripts/train_demo_base.py [--minutes 10] [--out src/tasc/demo/assets/base]

A byte-level BPE tokenizer and a Qwen2 model of about 1.1M parameters, trained from scratch on the text of
`tasc.demo.pretraining`: a stand-in for a pretrained small language model that a two-core machine can fine-tune in minutes.
It says nothing about the task's output form. What was done is written to `base.json` next to the weights.
"""

import argparse
import math
import platform
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from tasc.demo.pretraining import pretraining_texts
from tasc.files import write_json

# Qwen2's own split, so that a loader that rebuilds the tokenizer by its model type gets the same ids
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOKENIZER_SEED, TRAIN_SEED, EVAL_SEED = 1_000_001, 1_000_002, 1_000_003
ASSETS = Path(__file__).parents[1] / "src" / "tasc" / "demo" / "assets" / "base"


def train_tokenizer(*, vocab_size: int, n_texts: int) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE tokenizer on the base model's own kind of text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(islice(pretraining_texts(TOKENIZER_SEED), n_texts), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIALS[0], pad_token=SPECIALS[0], model_max_length=2048
    )


def build_model(tokenizer: PreTrainedTokenizerFast, *, hidden_size: int, n_layers: int) -> Qwen2ForCausalLM:
    """Build the untrained model: Qwen2, grouped-query attention, tied embeddings."""
    end_id = tokenizer.backend_tokenizer.token_to_id(SPECIALS[0])
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=n_layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=end_id,
        pad_token_id=end_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, *, block: int, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield int64 blocks of shape (batch_size, block): texts one after another, each closed by the end-of-text token."""
    texts, buffer = pretraining_texts(seed), []
    needed = block * batch_size
    while True:
        while len(buffer) < needed:
            rows = tokenizer(list(islice(texts, 512)), add_special_tokens=False)["input_ids"]
            buffer.extend(token for row in rows for token in [*row, tokenizer.eos_token_id])
        yield torch.tensor(buffer[:needed]).view(batch_size, block)
        del buffer[:needed]


def train(
    model: Qwen2ForCausalLM, data: Iterator[torch.Tensor], *, n_steps: int, lr: float, max_seconds: float
) -> dict[str, float]:
    """Run AdamW with warm-up and a cosine over `n_steps`; the clock may only cut a run short, never change its schedule."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, n_steps))
    started, step, loss = time.monotonic(), 0, torch.tensor(math.nan)
    model.train()
    for step, ids in zip(range(1, n_steps + 1), data, strict=False):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            seconds = time.monotonic() - started
            print(
                f"step {step}/{n_steps} loss {loss.item():.3f} {step * ids.numel() / seconds:.0f} tokens/s", flush=True
            )
        if time.monotonic() - started > max_seconds:
            break
    return {"steps": step, "loss": round(loss.item(), 4), "seconds": round(time.monotonic() - started, 1)}


def _rate(step: int, n_steps: int) -> float:
    warm_up = max(1, n_steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / (n_steps - warm_up))))


@torch.no_grad()
def evaluate(model: Qwen2ForCausalLM, data: Iterator[torch.Tensor], *, n_batches: int) -> float:
    """Mean loss in nats per token on text of another seed."""
    model.eval()
    losses = [model(input_ids=ids, labels=ids).loss.item() for ids in islice(data, n_batches)]
    return sum(losses) / len(losses)


def main() -> None:
    """Train, evaluate, store in half precision (2 MB instead of 4; the demo loads float32)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after that many minutes at the latest")
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = train_tokenizer(vocab_size=args.vocab_size, n_texts=50_000)
    model = build_model(tokenizer, hidden_size=args.hidden_size, n_layers=args.layers)
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"{n_parameters:,} parameters, {len(tokenizer)} tokens, {torch.get_num_threads()} threads", flush=True)
    shape = {"block": args.block, "batch_size": args.batch_size}
    result = train(
        model, batches(tokenizer, TRAIN_SEED, **shape), n_steps=args.steps, lr=args.lr, max_seconds=args.minutes * 60
    )
    result["eval_loss"] = round(evaluate(model, batches(tokenizer, EVAL_SEED, **shape), n_batches=20), 4)
    print(result, flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    (args.out / "model.safetensors").chmod(0o644)  # it is written for its owner alone; a wheel is for everybody
    options = {name: value for name, value in vars(args).items() if name != "out"}
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    write_json(
        args.out / "base.json", {"options": options, "parameters": n_parameters} | result | {"versions": versions}
    )


if __name__ == "__main__":
    main()
