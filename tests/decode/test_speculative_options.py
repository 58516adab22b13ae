"""Processors, criteria, streamers and dictionaries of model.generate, with drafts as without."""

from itertools import product
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.stopping_criteria import MaxTimeCriteria, StopStringCriteria
from transformers.generation.streamers import BaseStreamer, TextIteratorStreamer

from drafters import SHAPES, Bush, Script, random_drafter, wrong_at
from hf_drafts import CHANGES, GREEDY, PROMPTS, ROWS, eager_to_draft, one, oracle, padded, wide_model
from tasc.decode._choice import HFChoice
from tasc.decode._signature import cache_name
from tiny import byte_level_bpe
from tiny_models import DEVICE, tiny_model


@pytest.fixture(scope="module")
def llama() -> Any:
    return wide_model("llama")


@pytest.fixture(params=["cpu", "as on a GPU"])
def ahead(request, monkeypatch) -> bool:
    """On a GPU places are scored and criteria asked before the host looks at any: the same must come out."""
    if request.param == "cpu":
        return False
    init = HFChoice.__init__

    def ahead_of_the_host(self: HFChoice, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.ahead = self.ask_ahead = True

    monkeypatch.setattr(HFChoice, "__init__", ahead_of_the_host)
    return True


PENALTIES = {
    "repetition_penalty": dict(repetition_penalty=1.5),
    "no_repeat_ngram": dict(no_repeat_ngram_size=2),
    "min_new_tokens": dict(min_new_tokens=9),
    "suppress": dict(suppress_tokens=[20, 30, 40, 50, 60]),
    "bad_words": dict(bad_words_ids=[[17], [30, 31], [44]]),
    "forced_eos": dict(forced_eos_token_id=3),
    "exponential_decay": dict(exponential_decay_length_penalty=(5, 1.5)),
    "several": dict(repetition_penalty=1.3, no_repeat_ngram_size=3, min_new_tokens=4, renormalize_logits=True),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_logits_processors_see_the_true_prefix(llama, name, ahead):
    options = GREEDY | PENALTIES[name]
    unpenalised = oracle(llama, PROMPTS)
    right = oracle(llama, PROMPTS, **PENALTIES[name])
    plain = llama.generate(**padded(PROMPTS), **options)
    wrong = wrong_at(lambda place: place % 4 == 2)
    for drafter in (right, unpenalised, Script(right.table, wrong), Bush(right.table), Bush(right.table, wrong)):
        got = llama.generate(**padded(PROMPTS), custom_generate=eager_to_draft(drafter), **options)
        assert got.tolist() == plain.tolist()
        for prompt in PROMPTS:
            alone = llama.generate(**one(prompt), **options)
            got = llama.generate(**one(prompt), custom_generate=eager_to_draft(drafter), **options)
            assert got.tolist() == alone.tolist()


class Witness(LogitsProcessor):
    """A processor of the user's own, with a memory: writes down every prefix it is shown."""

    def __init__(self) -> None:
        self.prefixes: list[list[int]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.prefixes += input_ids.tolist()
        return scores - 0.01 * torch.arange(scores.shape[-1], device=DEVICE) * (input_ids.shape[1] % 3)


def test_a_processor_with_a_memory_is_called_as_by_plain_decoding(llama):
    prompt = PROMPTS[3]
    plain, drafted = Witness(), Witness()
    expected = llama.generate(**one(prompt), logits_processor=LogitsProcessorList([plain]), **GREEDY)
    table = {tuple(prompt): expected[0, len(prompt) :].tolist()}
    for change in CHANGES.values():
        drafted.prefixes.clear()
        got = llama.generate(
            **one(prompt),
            logits_processor=LogitsProcessorList([drafted]),
            custom_generate=eager_to_draft(Script(table, change)),
            **GREEDY,
        )
        assert got.tolist() == expected.tolist()
        assert drafted.prefixes == plain.prefixes


def test_a_prefix_function_sees_its_row_s_number(llama):
    def allowed(row: int, ids: torch.Tensor) -> list[int]:
        return list(range(8 + row, ROWS, 2 + (len(ids) + row) % 3))

    options = GREEDY | dict(prefix_allowed_tokens_fn=allowed)
    plain = llama.generate(**padded(PROMPTS), **options)
    width = plain.shape[1] - 30
    right = Script({tuple(p): line[width:].tolist() for p, line in zip(PROMPTS, plain, strict=True)})
    drafting = eager_to_draft(right)
    assert llama.generate(**padded(PROMPTS), custom_generate=drafting, **options).tolist() == plain.tolist()
    assert max(request.passes for request in drafting.requests) < 30


def test_a_prefix_function_sees_the_number_of_its_prompt(llama):
    """Also where several rows are of one prompt; it leaves one id, so that samples can be compared."""
    options = GREEDY | dict(
        do_sample=True, num_return_sequences=3, prefix_allowed_tokens_fn=lambda row, ids: [20 + row]
    )
    for prompts in (PROMPTS[:1], PROMPTS[:2]):
        plain = llama.generate(**padded(prompts), **options)
        got = llama.generate(**padded(prompts), custom_generate=eager_to_draft(Script({})), **options)
        assert got.tolist() == plain.tolist()


class StopAt(StoppingCriteria):
    """Stops rows of an odd sum of ids, after some length; writes down the lengths it was asked at."""

    def __init__(self, least: int) -> None:
        self.least = least
        self.lengths: list[int] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.lengths.append(input_ids.shape[1])
        return (input_ids.sum(dim=1) % 5 == 1) & (input_ids.shape[1] >= self.least)


@pytest.mark.parametrize("least", [0, 13, 20, 33])
def test_stopping_criteria_are_asked_at_every_token(llama, least):
    for prompts in ([PROMPTS[0]], PROMPTS):
        plain = llama.generate(**padded(prompts), stopping_criteria=StoppingCriteriaList([StopAt(least)]), **GREEDY)
        drafter = oracle(llama, prompts)
        for shape, change in product(SHAPES.values(), CHANGES.values()):
            criterion = StopAt(least)
            got = llama.generate(
                **padded(prompts),
                stopping_criteria=StoppingCriteriaList([criterion, MaxTimeCriteria(1000.0)]),
                custom_generate=eager_to_draft(shape(drafter.table, change)),
                **GREEDY,
            )
            assert got.tolist() == plain.tolist()
            if len(prompts) == 1:
                assert criterion.lengths == list(range(len(prompts[0]) + 1, got.shape[1] + 1))


def test_stop_strings(ahead):
    tokenizer = byte_level_bpe()
    model = tiny_model("qwen2", rows=len(tokenizer), initializer_range=0.5)
    options = dict(max_new_tokens=40, do_sample=False, eos_token_id=None, pad_token_id=0)
    prompt = tokenizer("wake me up").input_ids
    written = model.generate(**one(prompt), **options)[0, len(prompt) :].tolist()
    drafter = Script({tuple(prompt): written}, vocab_size=len(tokenizer))
    stops = {str(tokenizer.decode(written[place : place + 2]))[-3:] for place in range(3, 30, 4)}
    lengths = set()
    for stop in stops:
        criteria = StoppingCriteriaList([StopStringCriteria(tokenizer, [stop])])
        plain = model.generate(**one(prompt), stopping_criteria=criteria, **options)
        got = model.generate(
            **one(prompt), stopping_criteria=criteria, custom_generate=eager_to_draft(drafter), **options
        )
        assert got.tolist() == plain.tolist()
        lengths.add(got.shape[1])
    assert len(lengths) > 2


class Heard(BaseStreamer):
    """Writes down what it is given."""

    def __init__(self) -> None:
        self.given: list[list[int]] = []
        self.ended = 0

    def put(self, value: torch.Tensor) -> None:
        self.given.append(value.tolist())

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_rows", [1, 5])
def test_streamers_hear_what_plain_decoding_tells_them(llama, n_rows, shape):
    inputs = padded(PROMPTS[:n_rows])
    plain, drafted = Heard(), Heard()
    llama.generate(**inputs, streamer=plain, **GREEDY)
    drafter = SHAPES[shape](oracle(llama, PROMPTS).table, wrong_at(lambda place: place % 5 == 4))
    llama.generate(**inputs, streamer=drafted, custom_generate=eager_to_draft(drafter), **GREEDY)
    assert drafted.given == plain.given
    assert drafted.ended == plain.ended == 1


def test_text_streamers_end():
    tokenizer = byte_level_bpe()
    model = tiny_model("llama", rows=len(tokenizer))
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    drafting = eager_to_draft(random_drafter(0, vocab_size=len(tokenizer)))
    prompt = tokenizer("wake me up").input_ids
    out = model.generate(
        **one(prompt), streamer=streamer, custom_generate=drafting, max_new_tokens=9, do_sample=False, pad_token_id=0
    )
    assert "".join(streamer) == tokenizer.decode(out[0, len(prompt) :])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("penalty", [{}, dict(repetition_penalty=1.4), dict(suppress_tokens=[20, 30])])
def test_a_dictionary_has_scores_logits_and_cache(llama, penalty, shape, ahead):
    options = GREEDY | penalty | dict(return_dict_in_generate=True, output_scores=True, output_logits=True)
    drafter = SHAPES[shape](oracle(llama, PROMPTS, **penalty).table, wrong_at(lambda place: place % 4 == 3))
    prompt = PROMPTS[3]
    plain = llama.generate(**one(prompt), **options)
    got = llama.generate(**one(prompt), custom_generate=eager_to_draft(drafter), **options)
    assert got.sequences.tolist() == plain.sequences.tolist()
    for name in ("scores", "logits"):
        assert len(got[name]) == len(plain[name])
        for ours, theirs in zip(got[name], plain[name], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    cache, expected = got[cache_name(got)], plain[cache_name(plain)]
    assert cache.get_seq_length() == expected.get_seq_length()
    for ours, theirs in zip(cache.layers, expected.layers, strict=True):
        torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.values, theirs.values, rtol=1e-4, atol=1e-4)


def test_the_cache_of_a_padded_row_is_kept_back(llama):
    """It has no place for the padding that the sequences have."""
    inputs = padded([PROMPTS[0], PROMPTS[2]])
    first = {name: value[:1] for name, value in inputs.items()}
    assert not first["attention_mask"].all()
    options = GREEDY | dict(return_dict_in_generate=True)
    got = llama.generate(**first, custom_generate=eager_to_draft(Script({})), **options)
    assert cache_name(got) not in got or got[cache_name(got)] is None


class Unsure(StoppingCriteria):
    """Stops where the likeliest token is no longer likely; writes down the scores it was shown."""

    def __init__(self) -> None:
        self.shown: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.shown = [one.clone() for one in scores]
        return (scores[-1].softmax(-1).amax(-1) < 0.5) & (len(scores) > 5)


def test_stopping_criteria_see_the_scores_where_they_are_kept(llama):
    options = GREEDY | dict(return_dict_in_generate=True, output_scores=True)
    lengths = set()
    for prompt in PROMPTS:
        drafter = oracle(llama, [prompt])
        criteria = [Unsure(), Unsure()]
        plain, got = (
            llama.generate(**one(prompt), stopping_criteria=StoppingCriteriaList([criterion]), **more, **options)
            for criterion, more in zip(criteria, ({}, {"custom_generate": eager_to_draft(drafter)}), strict=True)
        )
        assert got.sequences.tolist() == plain.sequences.tolist()
        for ours, theirs in zip(criteria[1].shown, criteria[0].shown, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        lengths.add(len(plain.scores))
    assert min(lengths) < 30


def test_a_dictionary_of_several_rows(llama):
    options = GREEDY | dict(return_dict_in_generate=True, output_scores=True)
    drafter = oracle(llama, PROMPTS)
    plain = llama.generate(**padded(PROMPTS), **options)
    got = llama.generate(**padded(PROMPTS), custom_generate=eager_to_draft(drafter), **options)
    assert got.sequences.tolist() == plain.sequences.tolist()
    assert got.logits is None
    lengths = [len(drafter.table[tuple(prompt)]) for prompt in PROMPTS]
    for place, (ours, theirs) in enumerate(zip(got.scores, plain.scores, strict=True)):
        running = [row for row, length in enumerate(lengths) if place < length]
        torch.testing.assert_close(ours[running], theirs[running], rtol=1e-4, atol=1e-4)
