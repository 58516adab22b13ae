"""model.generate with drafts against model.generate without: the same output, whatever is drafted."""

from typing import Any

import pytest
import torch

from drafters import SHAPES, Bush, Script, random_drafter, wrong_at
from hf_drafts import CHANGES, GREEDY, PROMPTS, ROWS, eager_to_draft, one, oracle, padded, wide_model
from tasc.decode import generate, speculative
from tasc.decode._signature import cache_name
from tasc.decode.cache import RowCache
from tasc.decode.forward import ALIGNMENT
from tasc.draft.cost import StepCost
from tasc.draft.options import MAX_DRAFT
from tasc.errors import ModelError, OptionError
from tiny_models import ARCHITECTURES, DEVICE, POSITIONS, SIX


@pytest.fixture(scope="module")
def llama() -> Any:
    return wide_model("llama")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_output_is_plain_output(architecture, shape):
    model = wide_model(architecture)
    right = oracle(model, PROMPTS)
    for change in CHANGES.values():
        drafting = eager_to_draft(SHAPES[shape](right.table, change))
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


def test_a_branch_that_stands_is_moved_to_where_a_chain_has_it(llama, monkeypatch):
    """Else what follows would read what others left in its places."""
    right, moved = oracle(llama, PROMPTS), []
    move = RowCache.move
    monkeypatch.setattr(RowCache, "move", lambda self, *places: (moved.append(places), move(self, *places))[1])
    for prompts in (PROMPTS[:1], PROMPTS):
        drafting = eager_to_draft(Bush(right.table), max_draft=12)
        plain = llama.generate(**padded(prompts), **GREEDY)
        assert llama.generate(**padded(prompts), custom_generate=drafting, **GREEDY).tolist() == plain.tolist()
        assert sum(request.passes for request in drafting.requests) < sum(r.tokens for r in drafting.requests)
        assert moved
        moved.clear()
        # without it the outputs are others
        with monkeypatch.context() as left:
            left.setattr(RowCache, "move", lambda *_: None)
            assert llama.generate(**padded(prompts), custom_generate=drafting, **GREEDY).tolist() != plain.tolist()


def test_trees_bring_no_more_than_they_may(llama):
    """Their depth is bounded by the limit and their size by max_draft; what is counted adds up."""
    right = oracle(llama, PROMPTS)
    for n in range(1, 14):
        drafter = Bush(right.table)
        drafting = eager_to_draft(drafter, max_draft=8)
        options = GREEDY | dict(max_new_tokens=n)
        plain = llama.generate(**padded(PROMPTS), **options)
        assert llama.generate(**padded(PROMPTS), custom_generate=drafting, **options).tolist() == plain.tolist()
        for state, request in zip(drafter.states, drafting.requests, strict=True):
            assert max(state.asked, default=0) <= 8
            assert request.tokens <= n
            assert request.accepted == sum(accepted for _, accepted in request.by_position)
            assert request.accepted == sum(accepted for _, accepted in request.by_source.values())
            assert request.drafted == sum(drafted for drafted, _ in request.by_source.values())
            assert len(request.by_position) < n
    chains = eager_to_draft(Bush(right.table), tree=False)
    llama.generate(**padded(PROMPTS), custom_generate=chains, **GREEDY)
    for request in chains.requests:
        assert request.drafted == sum(passes for passes, _ in request.by_position)


def test_an_oracle_saves_passes(llama):
    prompt = PROMPTS[4]
    drafting = eager_to_draft(oracle(llama, [prompt]), max_draft=10)
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
        assert state.asked[0] == MAX_DRAFT, "the first draft comes before the prompt's pass"


def test_masks_lie_as_attention_on_cuda_needs_them(llama):
    """In aligned rows that begin at an aligned place: otherwise it copies them in every layer, or fails."""
    masks = []

    def note(_: Any, __: Any, options: dict[str, Any]) -> None:
        mask = options.get("attention_mask")
        if mask is not None and mask.is_floating_point():
            masks.append(mask)

    hook = llama.register_forward_pre_hook(note, with_kwargs=True)
    try:
        for change in CHANGES.values():
            for prompts in (PROMPTS[:1], PROMPTS, [PROMPTS[0], PROMPTS[0]]):
                llama.generate(**padded(prompts), custom_generate=eager_to_draft(Script({}, change)), **GREEDY)
                for shape in SHAPES.values():
                    drafting = eager_to_draft(shape(oracle(llama, prompts).table, change))
                    llama.generate(**padded(prompts), custom_generate=drafting, **GREEDY)
    finally:
        hook.remove()
    assert len({mask.shape[-1] % ALIGNMENT for mask in masks}) == ALIGNMENT, "windows of every length"
    assert {mask.storage_offset() % ALIGNMENT for mask in masks} == {0}
    assert {step % ALIGNMENT for mask in masks for step in mask.stride()[:-1]} == {0}
    assert {mask.stride(-1) for mask in masks} == {1}


@pytest.mark.parametrize("n", range(1, 16))
def test_the_limit_inside_a_draft(llama, n):
    options = GREEDY | dict(max_new_tokens=n, eos_token_id=95)
    prompt = PROMPTS[2]
    drafting = eager_to_draft(oracle(llama, [prompt], eos_token_id=95), max_draft=10)
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
    assert drafting.requests[0].drafted > 0
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


@pytest.mark.parametrize(
    "rope",
    [
        dict(rope_type="dynamic", factor=4.0),
        dict(rope_type="longrope", factor=4.0, short_factor=[1.0] * 4, long_factor=[4.0] * 4),
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_rows_whose_positions_would_be_encoded_anew_are_refused(rope):
    """A draft reaches the length at which all positions change before plain decoding does."""
    dynamic = rope["rope_type"] == "dynamic"
    rope = rope | dict(rope_theta=100.0) | ({} if dynamic else dict(original_max_position_embeddings=24))
    model = wide_model("llama", rope_parameters=rope, max_position_embeddings=24 if dynamic else 96)
    prompt = PROMPTS[2]
    with pytest.raises(ModelError, match="position encodings that change beyond 24 tokens and rows of up to 42"):
        model.generate(**one(prompt), custom_generate=eager_to_draft(random_drafter(0)), **GREEDY)
    short = GREEDY | dict(max_new_tokens=12)
    plain = model.generate(**one(prompt), **short)
    drafter = eager_to_draft(oracle(model, [prompt], max_new_tokens=12))
    assert model.generate(**one(prompt), custom_generate=drafter, **short).tolist() == plain.tolist()
    # without drafts such rows are decoded too, as transformers does it
    long = model.generate(**one(prompt), **GREEDY)[0, len(prompt) :].tolist()
    got = generate(model, [prompt], eos_id=[1, 2], max_new_tokens=30)
    assert len(got.outputs[0]) > 12 or dynamic  # it has no more positions
    assert got.outputs[0] == [token for token in long if token not in (1, 2)][: len(got.outputs[0])]


def test_models_that_count_columns_of_the_cache_are_refused():
    """Rows of different lengths have gaps there: a local window would be shifted, ALiBi's positions too."""
    from transformers import AutoModelForCausalLM, FalconConfig, GPTNeoConfig

    torch.manual_seed(0)
    small = dict(vocab_size=ROWS, hidden_size=16, initializer_range=0.5)
    local = GPTNeoConfig(num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]], window_size=16, **small)
    alibi = FalconConfig(num_hidden_layers=2, num_attention_heads=2, alibi=True, **small)
    for config, says in ((local, "a sliding window of 16 tokens"), (alibi, "ALiBi")):
        model = AutoModelForCausalLM.from_config(config).to(DEVICE).eval()
        with pytest.raises(ModelError, match=says):
            model.generate(**padded(PROMPTS), custom_generate=eager_to_draft(random_drafter(0)), **GREEDY)
        for prompt in PROMPTS:
            stock = model.generate(**one(prompt), **GREEDY)[0, len(prompt) :].tolist()
            got = generate(model, PROMPTS, eos_id=[1, 2], max_new_tokens=30, batch_size=3)
            assert got.outputs[PROMPTS.index(prompt)] == [token for token in stock if token not in (1, 2)]


def test_a_model_without_a_cache_is_refused():
    from transformers import AutoModelForCausalLM, OpenAIGPTConfig

    model = AutoModelForCausalLM.from_config(OpenAIGPTConfig(vocab_size=ROWS, n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(ModelError, match=r"drafts need a model that takes .*, OpenAIGPTLMHeadModel does not"):
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
        (dict(penalty_alpha=0.6, top_k=4), "penalty_alpha"),
        (dict(dola_layers="low"), "dola_layers"),
    ],
)
def test_options_that_drafts_do_not_support(llama, options, says):
    with pytest.raises(OptionError, match=says):
        llama.generate(**one(PROMPTS[0]), custom_generate=eager_to_draft(random_drafter(0)), **GREEDY | options)


def test_other_refusals(llama):
    drafting = eager_to_draft(random_drafter(0))
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]], device=DEVICE)
    with pytest.raises(OptionError, match="padded on the left"):
        llama.generate(
            input_ids=torch.tensor([[5, 6, 0], [5, 6, 7]], device=DEVICE),
            attention_mask=mask,
            custom_generate=drafting,
            **GREEDY,
        )
    used = llama.generate(**one(PROMPTS[0]), return_dict_in_generate=True, **GREEDY)
    cache = {cache_name(used): used[cache_name(used)]}
    with pytest.raises(OptionError, match="empty cache"):
        llama.generate(input_ids=used.sequences, custom_generate=drafting, **cache, **GREEDY)
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
