"""model.generate with drafts against model.generate without: the same output, whatever is drafted."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.stopping_criteria import MaxTimeCriteria, StopStringCriteria
from transformers.generation.streamers import BaseStreamer, TextIteratorStreamer

from drafters import Script, random_drafter, wrong_at
from tasc.decode import Speculative, speculative
from tasc.decode._choice import HFChoice
from tasc.draft.cost import StepCost
from tasc.errors import ModelError, OptionError
from tiny import byte_level_bpe
from tiny_models import ARCHITECTURES, POSITIONS, SIX, tiny_model

ROWS = 96
RNG = np.random.default_rng(5)
PROMPTS = [RNG.integers(12, ROWS, size).tolist() for size in (7, 1, 12, 3, 12)]
GREEDY = dict(max_new_tokens=30, do_sample=False, eos_token_id=[1, 2], pad_token_id=0)
CHANGES = {
    "right": None,
    "first wrong": wrong_at(lambda place: place % 4 == 0),
    "later wrong": wrong_at(lambda place: place % 4 == 3),
    "always wrong": wrong_at(lambda place: True),
}


def wide_model(architecture: str, **changes: Any) -> Any:
    """Logits far apart: where two are nearly equal, rounding decides, and passes of other widths round differently."""
    return tiny_model(architecture, rows=ROWS, initializer_range=0.5, **changes)


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


def eager_to_draft(drafter: Any, **options: Any) -> Speculative:
    """Drafts always, and as much as there is."""
    return speculative(drafter, **{"cost": StepCost.default("cuda"), "switch_off": False} | options)


def padded(prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    width = max(map(len, prompts))
    ids = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def one(prompt: list[int]) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([prompt])}


def oracle(model: Any, prompts: list[list[int]], change: Any = None, **options: Any) -> Script:
    """Knows what plain decoding writes."""
    table = {}
    for prompt in prompts:
        written = model.generate(**one(prompt), **GREEDY | options)[0, len(prompt) :].tolist()
        table[tuple(prompt)] = written
    return Script(table, change)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_output_is_plain_output(architecture):
    model = wide_model(architecture)
    right = oracle(model, PROMPTS)
    for change in CHANGES.values():
        drafting = eager_to_draft(Script(right.table, change))
        for prompt in PROMPTS:
            plain = model.generate(**one(prompt), **GREEDY)
            got = model.generate(**one(prompt), custom_generate=drafting, **GREEDY)
            assert got.tolist() == plain.tolist()
        plain = model.generate(**padded(PROMPTS), **GREEDY)
        got = model.generate(**padded(PROMPTS), custom_generate=drafting, **GREEDY)
        assert got.tolist() == plain.tolist()


@pytest.mark.parametrize("architecture", SIX)
def test_random_drafts_change_nothing(architecture):
    model = wide_model(architecture)
    plain = model.generate(**padded(PROMPTS), **GREEDY)
    for seed in range(3):
        drafting = eager_to_draft(random_drafter(seed))
        assert model.generate(**padded(PROMPTS), custom_generate=drafting, **GREEDY).tolist() == plain.tolist()


def test_rows_with_drafts_of_different_worth(llama):
    """Some rows are drafted right, some wrong, some not at all: they advance at different paces."""
    right = oracle(llama, PROMPTS)
    table = {key: value for number, (key, value) in enumerate(right.table.items()) if number != 1}
    wrong = wrong_at(lambda place: place % 3 == 2)
    table = {k: [wrong(i, t) for i, t in enumerate(v)] if n % 2 else v for n, (k, v) in enumerate(table.items())}
    drafting = eager_to_draft(Script(table))
    plain = llama.generate(**padded(PROMPTS), **GREEDY)
    assert llama.generate(**padded(PROMPTS), custom_generate=drafting, **GREEDY).tolist() == plain.tolist()
    passes = [request.passes for request in drafting.requests]
    assert len(set(passes)) > 2, "rows must differ for the test to mean something"
    assert [request.tokens for request in drafting.requests] == [
        len(llama.generate(**one(prompt), **GREEDY)[0]) - len(prompt) for prompt in PROMPTS
    ]


def test_an_oracle_saves_passes(llama):
    prompt = PROMPTS[4]
    drafting = eager_to_draft(oracle(llama, [prompt]))
    out = llama.generate(**one(prompt), custom_generate=drafting, **GREEDY)
    n = out.shape[1] - len(prompt)
    (request,) = drafting.requests
    assert n > 11, "needs several passes"
    assert request.passes == -(-n // 11)
    assert request.drafted == request.accepted
    assert request.tokens == n
    assert request.by_position[0] == [request.passes, request.passes]
    assert sum(drafted for drafted, _ in request.by_position) == request.drafted
    assert sum(drafted for drafted, _ in request.by_source.values()) == request.drafted
    assert request.draft_ms > 0
    assert request.verify_ms > 0


def test_states_see_what_was_written_and_nothing_else(llama):
    drafter = oracle(llama, PROMPTS, wrong_at(lambda place: place % 3 == 1))
    drafter = Script(drafter.table, drafter.change)
    llama.generate(**padded(PROMPTS), custom_generate=eager_to_draft(drafter), **GREEDY)
    assert drafter.prompts == [tuple(prompt) for prompt in PROMPTS], "prompts without padding"
    for prompt, state in zip(PROMPTS, drafter.states, strict=True):
        written = llama.generate(**one(prompt), **GREEDY)[0, len(prompt) :].tolist()
        assert state.seen == written
        assert state.asked[0] == 10, "the first draft comes before the prompt's pass"


@pytest.mark.parametrize("n", range(1, 16))
def test_the_limit_inside_a_draft(llama, n):
    options = GREEDY | dict(max_new_tokens=n, eos_token_id=95)
    prompt = PROMPTS[2]
    drafting = eager_to_draft(oracle(llama, [prompt], eos_token_id=95))
    plain = llama.generate(**one(prompt), **options)
    got = llama.generate(**one(prompt), custom_generate=drafting, **options)
    assert got.tolist() == plain.tolist()
    assert got.shape[1] == len(prompt) + n
    assert drafting.requests[0].passes == -(-n // 11)


def test_an_end_token_at_every_place_of_a_draft(llama):
    """Each id that plain decoding writes is once made the end token."""
    prompt = PROMPTS[0]
    drafter = oracle(llama, [prompt], eos_token_id=None)
    written = drafter.table[tuple(prompt)]
    for eos_id in sorted(set(written)):
        options = GREEDY | dict(eos_token_id=eos_id)
        plain = llama.generate(**one(prompt), **options)
        got = llama.generate(**one(prompt), custom_generate=eager_to_draft(drafter), **options)
        assert got.tolist() == plain.tolist()


def test_a_row_up_to_the_model_s_last_position(llama):
    prompt = PROMPTS[0] * 14
    options = GREEDY | dict(max_new_tokens=POSITIONS - len(prompt), eos_token_id=95)
    gpt2 = wide_model("gpt2")  # its positions are a table, which has an end
    for model in (llama, gpt2):
        plain = model.generate(**one(prompt), **options)
        for drafter in (Script({tuple(prompt): plain[0, len(prompt) :].tolist()}), random_drafter(0)):
            got = model.generate(**one(prompt), custom_generate=eager_to_draft(drafter), **options)
            assert got.tolist() == plain.tolist()


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
    for drafter in (right, unpenalised, Script(right.table, wrong_at(lambda place: place % 4 == 2))):
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
        return scores - 0.01 * torch.arange(scores.shape[-1]) * (input_ids.shape[1] % 3)


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
        for change in CHANGES.values():
            criterion = StopAt(least)
            got = llama.generate(
                **padded(prompts),
                stopping_criteria=StoppingCriteriaList([criterion, MaxTimeCriteria(1000.0)]),
                custom_generate=eager_to_draft(Script(drafter.table, change)),
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


@pytest.mark.parametrize("n_rows", [1, 5])
def test_streamers_hear_what_plain_decoding_tells_them(llama, n_rows):
    inputs = padded(PROMPTS[:n_rows])
    plain, drafted = Heard(), Heard()
    llama.generate(**inputs, streamer=plain, **GREEDY)
    drafter = oracle(llama, PROMPTS, wrong_at(lambda place: place % 5 == 4))
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


@pytest.mark.parametrize("penalty", [{}, dict(repetition_penalty=1.4), dict(suppress_tokens=[20, 30])])
def test_a_dictionary_has_scores_logits_and_cache(llama, penalty):
    options = GREEDY | penalty | dict(return_dict_in_generate=True, output_scores=True, output_logits=True)
    drafter = oracle(llama, PROMPTS, wrong_at(lambda place: place % 4 == 3), **penalty)
    prompt = PROMPTS[3]
    plain = llama.generate(**one(prompt), **options)
    got = llama.generate(**one(prompt), custom_generate=eager_to_draft(drafter), **options)
    assert got.sequences.tolist() == plain.sequences.tolist()
    for name in ("scores", "logits"):
        assert len(got[name]) == len(plain[name])
        for ours, theirs in zip(got[name], plain[name], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert got.past_key_values.get_seq_length() == plain.past_key_values.get_seq_length()
    for ours, theirs in zip(got.past_key_values.layers, plain.past_key_values.layers, strict=True):
        torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.values, theirs.values, rtol=1e-4, atol=1e-4)


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


def exact_distribution(
    model: Any, prompt: list[int], n: int, eos_id: int, process: Any
) -> dict[tuple[int, ...], float]:
    """Probability of every output of at most n ids."""
    chances: dict[tuple[int, ...], float] = {}
    unfinished: dict[tuple[int, ...], float] = {(): 1.0}
    for place in range(n):
        longer: dict[tuple[int, ...], float] = {}
        for ids, chance in unfinished.items():
            full = torch.tensor([[*prompt, *ids]])
            with torch.no_grad():
                scores = process(full, model(full).logits[:, -1].float())
            for token, p in enumerate(torch.softmax(scores, dim=-1)[0].tolist()):
                target = chances if token == eos_id or place == n - 1 else longer
                target[(*ids, token)] = target.get((*ids, token), 0.0) + chance * p
        unfinished = longer
    return chances


SAMPLING = {
    "plain": {},
    "temperature and top-k": dict(temperature=0.7, top_k=4),
    "top-p": dict(top_p=0.8),
    "repetition penalty": dict(repetition_penalty=1.5, temperature=1.2),
}


@pytest.mark.parametrize("drafts", ["right", "random"])
@pytest.mark.parametrize("name", SAMPLING)
def test_sampling_keeps_the_distribution(name, drafts, ahead):
    n_ids, n_new, n_samples, eos_id = 5, 3, 4000, 4
    model = tiny_model("llama", rows=n_ids, initializer_range=0.3, seed=3)
    prompt = [1, 2, 3]
    options = dict(do_sample=True, top_k=0, max_new_tokens=n_new, eos_token_id=eos_id, pad_token_id=0) | SAMPLING[name]
    seen: list[Any] = []

    def note(*_: Any, logits_processor: Any, **__: Any) -> torch.Tensor:
        seen.append(logits_processor)
        return torch.zeros(1, 1, dtype=torch.int64)

    model.generate(**one(prompt), custom_generate=lambda model, input_ids, **rest: note(**rest), **options)
    chances = exact_distribution(model, prompt, n_new, eos_id, seen[0])
    assert sum(chances.values()) == pytest.approx(1)
    likely = max(chances, key=chances.__getitem__)
    rng = np.random.default_rng(0)
    table = (lambda _: likely) if drafts == "right" else (lambda _: rng.integers(0, n_ids, n_new).tolist())
    drafting = eager_to_draft(Script(table, vocab_size=n_ids))
    torch.manual_seed(1 + ahead)
    counts: dict[tuple[int, ...], int] = {}
    accepted = 0
    for _ in range(n_samples // 500):
        out = model.generate(**one(prompt), num_return_sequences=500, custom_generate=drafting, **options)
        accepted += sum(request.accepted for request in drafting.requests)
        for line in out[:, len(prompt) :].tolist():
            ids = tuple(line[: line.index(eos_id) + 1] if eos_id in line else line)
            counts[ids] = counts.get(ids, 0) + 1
    assert accepted > n_samples / 20
    assert set(counts) <= {ids for ids, chance in chances.items() if chance > 0}
    cells = sorted((chance, counts.get(ids, 0)) for ids, chance in chances.items() if chance > 0)
    # rare outputs together, so that each cell has enough expected counts
    rare = [cell for cell in cells if cell[0] * n_samples < 8]
    frequent = [cell for cell in cells if cell[0] * n_samples >= 8]
    merged = frequent + ([tuple(map(sum, zip(*rare, strict=True)))] if sum(c for c, _ in rare) * n_samples >= 8 else [])
    expected = np.array([chance for chance, _ in merged])
    found = np.array([count for _, count in merged], float)
    assert chisquare(found, expected / expected.sum() * found.sum()).pvalue > 1e-3


def test_a_wrong_acceptance_rule_would_be_found_by_the_test_above():
    """Accepting every draft shifts the counts by far more than the test allows."""
    found, expected = np.array([4000.0, 0.0]), np.array([3700.0, 300.0])
    assert chisquare(found, expected).pvalue < 1e-20


def test_sampled_rows_of_a_batch_do_not_depend_on_each_other(llama):
    """With one allowed id per place there is only one sample: rows at different paces must find it."""
    right = oracle(llama, PROMPTS)
    options = GREEDY | dict(do_sample=True, top_k=1)
    plain = llama.generate(**padded(PROMPTS), **GREEDY)
    for change in CHANGES.values():
        drafting = eager_to_draft(Script(right.table, change))
        assert llama.generate(**padded(PROMPTS), custom_generate=drafting, **options).tolist() == plain.tolist()


def test_eager_attention():
    for architecture in SIX:
        model = wide_model(architecture)
        model.set_attn_implementation("eager")
        plain = model.generate(**padded(PROMPTS), **GREEDY)
        drafting = eager_to_draft(oracle(model, PROMPTS, wrong_at(lambda place: place % 3 == 2)))
        assert model.generate(**padded(PROMPTS), custom_generate=drafting, **GREEDY).tolist() == plain.tolist()


def test_bfloat16_accepts_most_of_what_it_would_write(llama):
    """Wider passes round differently, so equality is not promised; but drafts of its own words must stand."""
    model = wide_model("llama").to(torch.bfloat16)
    prompt = PROMPTS[0]
    drafting = eager_to_draft(oracle(model, [prompt]))
    model.generate(**one(prompt), custom_generate=drafting, **GREEDY)
    assert drafting.requests[0].accepted >= 0.5 * drafting.requests[0].drafted


def test_caches_that_cannot_be_rolled_back_are_refused():
    from transformers import AutoModelForCausalLM, MambaConfig, Qwen3NextConfig

    small = dict(vocab_size=ROWS, hidden_size=16, num_hidden_layers=4, intermediate_size=32)
    heads = dict(num_attention_heads=2, num_key_value_heads=1, head_dim=8)
    hybrid = Qwen3NextConfig(
        **small, **heads, linear_num_value_heads=2, linear_num_key_heads=2, linear_key_head_dim=8,
        linear_value_head_dim=8, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    )  # fmt: skip
    models = [
        AutoModelForCausalLM.from_config(MambaConfig(vocab_size=ROWS, hidden_size=16, num_hidden_layers=2)),
        AutoModelForCausalLM.from_config(hybrid),
        wide_model("mistral", sliding_window=16),
    ]
    for model in models:
        with pytest.raises(ModelError, match="a cache that can be rolled back"):
            model.generate(**one(PROMPTS[2]), custom_generate=eager_to_draft(random_drafter(0)), **GREEDY)


def test_a_window_that_is_never_reached_is_no_obstacle():
    model = wide_model("mistral", sliding_window=64)
    prompt = PROMPTS[2]
    plain = model.generate(**one(prompt), **GREEDY)
    got = model.generate(**one(prompt), custom_generate=eager_to_draft(oracle(model, [prompt])), **GREEDY)
    assert got.tolist() == plain.tolist()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(num_beams=2), "num_beams"),
        (dict(output_hidden_states=True, return_dict_in_generate=True), "output_hidden_states"),
        (dict(use_cache=False), "use_cache"),
        (dict(synced_gpus=True), "synced_gpus"),
    ],
)
def test_options_that_drafts_do_not_support(llama, options, says):
    with pytest.raises(OptionError, match=says):
        llama.generate(**one(PROMPTS[0]), custom_generate=eager_to_draft(random_drafter(0)), **GREEDY | options)


def test_other_refusals(llama):
    drafting = eager_to_draft(random_drafter(0))
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    with pytest.raises(OptionError, match="padded on the left"):
        llama.generate(
            input_ids=torch.tensor([[5, 6, 0], [5, 6, 7]]), attention_mask=mask, custom_generate=drafting, **GREEDY
        )
    used = llama.generate(**one(PROMPTS[0]), return_dict_in_generate=True, **GREEDY)
    with pytest.raises(OptionError, match="empty cache"):
        llama.generate(
            input_ids=used.sequences, past_key_values=used.past_key_values, custom_generate=drafting, **GREEDY
        )
    with pytest.raises(ModelError, match="97 ids, the model 96 rows"):
        llama.generate(**one(PROMPTS[0]), custom_generate=eager_to_draft(random_drafter(0, vocab_size=97)), **GREEDY)
    with pytest.raises(OptionError, match="a drafter is needed, got str"):
        speculative("task.tasc")
    with pytest.raises(OptionError, match="max_draft"):
        speculative(random_drafter(0), max_draft=0)
    with pytest.raises(OptionError, match="one row at a time"):
        llama.generate(**padded(PROMPTS), custom_generate=drafting, guidance_scale=1.5, **GREEDY)


def test_drafts_that_never_fit_are_given_up(llama):
    options = GREEDY | dict(max_new_tokens=110, eos_token_id=None)
    drafter = random_drafter(0, length=300)
    drafting = speculative(drafter, cost=StepCost.default("cpu"))
    llama.generate(**one([20, 21]), custom_generate=drafting, **options)
    (request,) = drafting.requests
    assert request.tokens == 110
    assert 0 < request.by_position[0][0] < 12
    asked = len(drafter.states[0].asked)
    llama.generate(**one([20, 22]), custom_generate=drafting, **options)
    assert len(drafter.states[1].asked) < asked, "what it learnt is carried over"


def test_models_wrapped_by_peft():
    from peft import LoraConfig, get_peft_model

    plain = wide_model("llama")
    drafter = oracle(plain, PROMPTS, wrong_at(lambda place: place % 4 == 3))
    expected = plain.generate(**padded(PROMPTS), **GREEDY).tolist()
    wrapped: Any = get_peft_model(plain, LoraConfig(target_modules=["q_proj"]))
    drafting = eager_to_draft(drafter)
    assert wrapped.generate(**padded(PROMPTS), custom_generate=drafting, **GREEDY).tolist() == expected
