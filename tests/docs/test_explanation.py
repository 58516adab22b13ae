"""The worked example of docs/explanation.md, computed anew from the page's own outputs."""

import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasc.corpus import Row, Tasks, TokenCorpus
from tasc.corpus.variability import renyi_entropy
from tasc.draft import SOURCES, Drafter, Options
from tasc.draft.verify import kept
from tasc.vocab import enrich
from tasc.vocab.pcs import PrefixCollisions

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "explanation.md").read_text(encoding="utf-8")
N_MAX, P_MIN, END = 3, 1, "</s>"


def block(title):
    """The lines of the code block with this title."""
    (found,) = re.findall(rf'^```text title="{re.escape(title)}"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
    return found.splitlines()


def table(first_column):
    """The rows of the table whose first heading is this one, without the marks of code."""
    lines = PAGE.splitlines()
    (start,) = (k for k, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def numbers(pattern):
    """The numbers in the only sentence of the page that matches, as floats."""
    (found,) = re.findall(pattern, " ".join(PAGE.split()))
    return [float(value) for value in ([found] if isinstance(found, str) else found)]


OUTPUTS, PROMPT, WRITTEN = block("ten outputs"), block("a request")[0], block("what the model writes")[0]


@pytest.fixture(scope="module")
def words():
    """A tokenizer whose tokens are the page's words, in their order on the page."""
    seen = list(dict.fromkeys(" ".join([*OUTPUTS, PROMPT]).split()))
    pieces = [(special, 0.0) for special in ("<unk>", "<s>", END)] + [("▁" + word, -3.0) for word in seen]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(special, special=True) for special in ("<unk>", "<s>", END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token=END, pad_token=END
    )


@pytest.fixture(scope="module")
def report(words):
    tasks = Tasks(tuple(Row(PROMPT, output) for output in OUTPUTS), "docs/explanation.md")
    return enrich(tasks, words, budget=5, method="paper", n_max=N_MAX)


def ids(words, text):
    found = words(text, add_special_tokens=False)["input_ids"]
    assert len(found) == len(text.split())
    assert words.unk_token_id not in found
    return found


def spelt(words, some):
    return [END if token == words.eos_token_id else words.decode([token]).strip() for token in some]


def test_there_are_ten_outputs():
    assert len(OUTPUTS) == 10


def test_the_five_merges_are_those_of_algorithm_1(report):
    rows = table("round")
    merges = [(n.text.strip(), n.count, len(n.parts), n.reward) for n in report.vocabulary.ngrams]
    assert [(row[1].replace(" + ", " "), int(row[2]), int(row[3]), int(row[4])) for row in rows] == merges
    assert [int(row[0]) for row in rows] == [1, 2, 3, 4, 5]


def test_the_parts_of_a_merge_are_tokens_of_its_round(words, report):
    texts = dict(enumerate((n.text.strip() for n in report.vocabulary.ngrams), start=report.vocabulary.base_size))
    for row, ngram in zip(table("round"), report.vocabulary.ngrams, strict=True):
        assert row[1].split(" + ") == [texts.get(part) or words.decode([part]).strip() for part in ngram.parts]


def test_the_next_best_and_the_lengths_are_those_of_counting_by_hand(words):
    """Every n-gram counted in Python: which would have been taken next, and how many tokens are left."""
    rows = [[(token,) for token in ids(words, output)] for output in OUTPUTS]
    for line in table("round"):
        counts = Counter(
            tuple(row[k : k + n]) for row in rows for n in range(2, N_MAX + 1) for k in range(len(row) - n + 1)
        )
        ranked = sorted(counts, key=lambda g: (-counts[g] * (len(g) - 1), len(g), g))
        taken, following = ranked[:2]
        rows = [merged(row, taken) for row in rows]
        text = " + ".join(words.decode(list(part)).strip() for part in following)
        count, n = counts[following], len(following)
        assert line[5] == f"{text} ({count} x {n - 1} = {count * (n - 1)})"
        assert int(line[6]) == sum(map(len, rows))


def merged(row, ngram):
    out, k = [], 0
    while k < len(row):
        if tuple(row[k : k + len(ngram)]) == ngram:
            out.append(tuple(token for part in ngram for token in part))
            k += len(ngram)
        else:
            out.append(row[k])
            k += 1
    return out


def test_the_outputs_after_the_merges(words, report):
    expected = []
    for output in OUTPUTS:
        found = report.vocabulary.merge(ids(words, output)).tolist()
        texts = [words.decode(report.vocabulary.expand([token]).tolist()).strip() for token in found]
        marked = [f"[{text}]" if " " in text else text for text in texts]
        expected.append(" ".join(marked))
    assert block("after five merges") == expected


def test_the_tokens_and_the_entropy_before_and_after(words, report):
    before, after, ratio = numbers(r"from (\d+) tokens to (\d+), (\d+\.\d+) times shorter")
    assert (before, after) == (report.train.tokens_before, report.train.tokens_after)
    assert ratio == round(report.train.ratio, 2)
    assert numbers(r"rises from (\d+\.\d+) to (\d+\.\d+) nats") == [round(value, 2) for value in report.h2_nats]
    merged_ids = np.concatenate([report.vocabulary.merge(ids(words, output)) for output in OUTPUTS])
    assert report.h2_nats[1] == pytest.approx(renyi_entropy(np.unique(merged_ids, return_counts=True)[1], order=2))


def test_the_entropy_on_massive_is_the_benchmarks():
    found = json.loads((ROOT / "benchmarks" / "results" / "variability.json").read_text(encoding="utf-8"))
    points = {point["budget"]: point for point in found["corpora"]["massive_en"]["predicted_shortening"]}
    at_150, at_250, fewer = numbers(r"H2 falls from (\d+\.\d+) nats at 150 n-grams to (\d+\.\d+) at 250.*?(\d+)% fewer")
    assert (at_150, at_250) == (round(points[150]["h2_nats"], 2), round(points[250]["h2_nats"], 2))
    assert fewer == round(100 * (1 - points[150]["steps_ratio"] / points[250]["steps_ratio"]))


def test_the_prefix_collision_score(report):
    texts, counts = zip(*[(row[0], int(row[1])) for row in table("token of the outputs")], strict=True)
    scored = PrefixCollisions([b" " + text.encode() for text in texts], counts).score([0, 1])
    (above, below, value) = numbers(r"PCS of ` in the` is (\d+)/(\d+) = (\d+\.\d+)")
    assert above / below == value == scored
    assert {ngram.pcs for ngram in report.vocabulary.ngrams} == {0.0}


@pytest.fixture(scope="module")
def decoded(words):
    """The passes of one request: what was drafted, with what the drafter said, and what was kept."""
    outputs = TokenCorpus.from_rows([ids(words, output) for output in OUTPUTS])
    options = Options(preset="paper", p_min=P_MIN)
    drafter = Drafter.build(outputs, eos_id=words.eos_token_id, vocab_size=len(words), options=options)
    target = [*ids(words, WRITTEN.removesuffix(END).strip()), words.eos_token_id]
    state = drafter.start(ids(words, PROMPT))
    state.extend(target[:1])  # the prompt's pass
    done, passes = 1, []
    while done < len(target):
        draft = state.propose(10)
        chosen = (target[done:] + [-1] * 10)[: len(draft.tokens) + 1]  # behind the end it does not matter
        brought = kept(draft.planned(10), chosen)
        brought = brought[: len(target) - done]
        passes.append(SimpleNamespace(draft=draft, brought=brought, before=target[:done]))
        state.extend(brought)
        done += len(brought)
    return passes


def test_the_draft_is_the_drafters(words, decoded):
    drafted = decoded[0].draft
    rows = table("place")
    assert [row[2] for row in rows] == spelt(words, drafted.tokens)
    assert {SOURCES[source] for source in drafted.sources} == {"corpus"}
    for row, chance in zip(rows, drafted.probabilities, strict=True):
        above, below = map(int, row[1].rsplit(" ", 1)[1].split("/"))
        assert above / below == pytest.approx(float(chance))


def test_what_the_corpus_says_is_counted_in_the_outputs():
    """`context: token a/b` of the table: of b places behind that context, a have that token."""
    texts = [[*output.split(), END] for output in OUTPUTS]
    for _, cell, drafted, *_ in table("place"):
        context, share = cell.rsplit(" ", 1)
        context = context.split()
        behind = [
            text[k + len(context)]
            for text in texts
            for k in range(len(text) - len(context))
            if text[k : k + len(context)] == context
        ]
        assert share == f"{behind.count(drafted)}/{len(behind)}"


def test_the_verification_keeps_what_the_page_says(words, decoded):
    rows, (first, *_) = table("place"), decoded
    kept_words = spelt(words, first.brought)
    for k, (_, _, drafted, own, verdict) in enumerate(rows):
        if k < len(kept_words) - 1:
            assert (own, verdict) == (drafted, "accepted")
            assert kept_words[k] == drafted
        elif k == len(kept_words) - 1:
            assert verdict == "rejected"
            assert own == kept_words[k] != drafted
        else:
            assert verdict == "not looked at"


def test_every_pass_of_the_page(words, decoded):
    rows = table("pass")
    assert rows[0][1:] == ["", "", WRITTEN.split()[0]]
    for row, one in zip(rows[1:], decoded, strict=True):
        drafted = spelt(words, one.draft.tokens)
        brought = spelt(words, one.brought)
        accepted = [a for a, b in zip(drafted, brought, strict=False) if a == b]
        own = brought[len(accepted) :]
        assert row[1:] == [" ".join(drafted), " ".join(accepted), " ".join(own)]
    plain, passes = numbers(r"(\d+) passes without drafts, (\d+) with")
    assert (plain, passes) == (len(WRITTEN.split()), 1 + len(decoded))


def test_the_last_pass_mixes_corpus_and_prompt(decoded):
    draft = decoded[-1].draft
    first, second = map(float, draft.probabilities)
    assert f"0.75 x 2/66 + 0.25 x 1 = {first:.3f}" in PAGE
    assert f"0.75 x 2/2 = {second:.2f}" in PAGE
    assert [SOURCES[source] for source in draft.sources] == ["prompt", "corpus"]
