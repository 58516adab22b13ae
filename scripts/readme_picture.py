"""Draw the README's picture: one output of the demo task in base tokens and in enriched tokens, as SVG.

    python scripts/readme_picture.py [--out docs/tokens.svg]

Nothing in it is invented: the demo's tokenizer, its training outputs, and the n-grams that `tasc enrich` finds in them.
"""

import argparse
from html import escape
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from tasc.corpus import Row, Tasks
from tasc.demo import load_base, make_splits
from tasc.vocab import EnrichedVocabulary, enrich

BUDGET = 300
LONGEST_TEXT = 80  # characters of the output shown
BASE, NGRAM = "#d9dee7", "#8fc7a5"  # told apart by lightness too
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
CHARACTER, HEIGHT, GAP, PADDING = 8.4, 30, 4, 6


def boxes(pieces: list[tuple[str, bool]], top: int) -> tuple[list[str], float]:
    """SVG of one row of tokens and its width; a piece is its text and whether it is an n-gram."""
    shapes, x = [], 16.0
    for text, is_ngram in pieces:
        shown = text.replace(" ", "\u00b7")
        width = CHARACTER * len(shown) + 2 * PADDING
        colour = NGRAM if is_ngram else BASE
        shapes.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT}" rx="5" fill="{colour}"/>')
        shapes.append(f'<text x="{x + PADDING:.1f}" y="{top + 20}" fill="#14171c">{escape(shown)}</text>')
        x += width + GAP
    return shapes, x


def typical_row(rows: Tasks, tokenizer: PreTrainedTokenizerFast, vocabulary: EnrichedVocabulary) -> Row:
    """The held-out row that fits the picture and is shortened most nearly as much as the mean row is."""
    encoded = tokenizer(rows.completions, add_special_tokens=False)["input_ids"]
    lengths = [(len(ids), vocabulary.merge(ids).size) for ids in encoded]
    mean = sum(before for before, _ in lengths) / sum(after for _, after in lengths)
    fits = [k for k, row in enumerate(rows) if 60 <= len(row.completion) <= LONGEST_TEXT]
    return rows[min(fits, key=lambda k: abs(lengths[k][0] / lengths[k][1] - mean))]


def picture() -> str:
    """The SVG document."""
    _, tokenizer = load_base()
    splits = make_splits()
    vocabulary = enrich(splits["train"], tokenizer, budget=BUDGET).vocabulary
    row = typical_row(splits["test"], tokenizer, vocabulary)
    ids = tokenizer(row.completion, add_special_tokens=False)["input_ids"]
    merged = vocabulary.merge(ids).tolist()
    rows = {
        f"{len(ids)} tokens, {len(ids)} decoding steps": [(tokenizer.decode([i]), False) for i in ids],
        f"{len(merged)} tokens, {len(merged)} decoding steps": [
            (tokenizer.decode(list(vocabulary.ids_of(i))), i >= vocabulary.base_size) for i in merged
        ],
    }
    shapes, width, top = [], 0.0, 52
    shapes.append(f'<text x="16" y="26" fill="#7a8494">prompt: {escape(row.prompt)}</text>')
    for title, pieces in rows.items():
        shapes.append(f'<text x="16" y="{top + 4}" fill="#7a8494">{title}</text>')
        drawn, right = boxes(pieces, top + 14)
        shapes += drawn
        width, top = max(width, right), top + 76
    label = f"The same output in {len(ids)} base tokens and in {len(merged)} enriched tokens"
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 12:.0f} {top - 18}" role="img" '
        f'aria-label="{label}" font-family="{FONT}" font-size="14">\n<title>{label}</title>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "tokens.svg")
    args = parser.parse_args()
    args.out.write_text(picture(), encoding="utf-8")
