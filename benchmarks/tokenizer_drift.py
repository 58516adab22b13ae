"""How two ways to add n-grams to a tokenizer change the encoding of prompts: the vocabulary without merges, and add_tokens.

    python benchmarks/tokenizer_drift.py [--budget 250] [--tokenizers gpt2 qwen2.5 ...]

Mines each corpus with Algorithm 1, writes the same n-grams in both styles, and encodes the test prompts of the same corpus,
of the other corpus, and the test outputs (the history of a chat). Writes benchmarks/results/tokenizer_drift.json.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tasc.corpus import TokenCorpus, encode_batch, load_tasks, load_tokenizer
from tasc.files import write_json
from tasc.vocab import EnrichedVocabulary, mine_vocabulary
from tasc.vocab.tokenizer import Style, check_prompts, speller, write_tokenizer

SHARED = Path(os.environ.get("TASC_SHARED", Path(__file__).parents[2] / "shared"))
RESULT = Path(__file__).parent / "results" / "tokenizer_drift.json"
TOKENIZERS = ("gpt2", "smollm2", "mistral-v3-spm", "qwen2.5")
CORPORA = ("massive_en", "ud_ewt_pos", "medquad")  # the prompts of the next one are the other prompts
TRAIN_ROWS = 10_000
OPTIONS = {"n_max": 4, "method": "paper", "pcs": None}
STYLES: tuple[Style, ...] = ("vocabulary", "added-tokens")


def measure(name: str, corpus: str, budget: int, folder: Path) -> list[dict]:
    """One row for each style: the n-grams of `corpus` in the tokenizer `name`."""
    base = load_tokenizer(SHARED / "tokenizers" / name)
    train = TokenCorpus.encode(load(corpus, "train")[:TRAIN_ROWS].completions, base)
    test = load(corpus, "test")
    other = load(CORPORA[(CORPORA.index(corpus) + 1) % len(CORPORA)], "test")
    # n-grams that add_tokens can hold too, so that both styles get the same ones
    spell = speller(base, style="added-tokens")
    vocabulary, _, _ = mine_vocabulary(train, spell, options=OPTIONS | {"budget": budget})
    texts = {"prompts": test.prompts, "other_prompts": other.prompts, "outputs": test.completions}
    merged = [vocabulary.merge(row) for row in encode_batch(base, test.completions)]
    rows = []
    for style in STYLES:
        out = folder / style
        write_tokenizer(base, vocabulary, out, style=style)
        enriched = AutoTokenizer.from_pretrained(out)
        row: dict = {"tokenizer": name, "corpus": corpus, "style": style, "n_ngrams": len(vocabulary)}
        for kind, sample in texts.items():
            drift = check_prompts(base, enriched, sample, style=style)
            row[kind] = {"n_texts": drift.n_texts, "n_changed": drift.n_changed, "n_cut": n_cut(base, enriched, sample)}
        row["n_outputs_decoded_differently"] = sum(
            enriched.decode(ids.tolist()) != text
            for ids, text in zip(merged, decoded(base, vocabulary, merged), strict=True)
        )
        rows.append(row)
    rows[0]["n_picks_add_tokens_cannot_hold"] = not_expressible(base, train, budget)
    return rows


def load(corpus: str, split: str):  # noqa: ANN201
    return load_tasks(SHARED / "data" / corpus / f"{split}.jsonl.gz")


def decoded(base: PreTrainedTokenizerFast, vocabulary: EnrichedVocabulary, merged: list) -> list[str]:
    return [str(base.decode(vocabulary.expand(row).tolist())) for row in merged]


def n_cut(base: PreTrainedTokenizerFast, enriched: PreTrainedTokenizerFast, texts: list[str]) -> int:
    """Texts in which a token of the base was cut in two: the enriched tokenizer has a boundary where the base has none."""
    both = [t.backend_tokenizer.encode_batch(texts, add_special_tokens=False) for t in (base, enriched)]
    edges = [[{edge for span in encoding.offsets for edge in span} for encoding in encodings] for encodings in both]
    return sum(bool(new - old) for old, new in zip(*edges, strict=True))


def not_expressible(base: PreTrainedTokenizerFast, train: TokenCorpus, budget: int) -> int:
    """Of the n-grams that the vocabulary style would take, those that add_tokens cannot hold."""
    vocabulary, _, _ = mine_vocabulary(train, speller(base), options=OPTIONS | {"budget": budget})
    spell = speller(base, style="added-tokens")
    return sum(spell.spell(ids) is None for ids in vocabulary.expansions)


def show(rows: list[dict]) -> None:
    table = Table("tokenizer", "corpus", "style", "prompts", "other prompts", "outputs", "cut in prompts", "decoding")
    for row in rows:
        changed = [f"{row[k]['n_changed'] / row[k]['n_texts']:.1%}" for k in ("prompts", "other_prompts", "outputs")]
        cut = f"{row['prompts']['n_cut'] / row['prompts']['n_texts']:.1%}"
        named = [row["tokenizer"], row["corpus"], row["style"]]
        table.add_row(*named, *changed, cut, str(row["n_outputs_decoded_differently"]))
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=250)
    parser.add_argument("--tokenizers", nargs="+", default=list(TOKENIZERS))
    options = parser.parse_args()
    rows = []
    for name in options.tokenizers:
        for corpus in CORPORA:
            with tempfile.TemporaryDirectory() as folder:
                rows += measure(name, corpus, options.budget, Path(folder))
    show(rows)
    result = {"benchmark": "tokenizer_drift", "budget": options.budget, "options": OPTIONS, "rows": rows}
    write_json(RESULT, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
