"""The proposer for vLLM without vLLM: its options, what it refuses, whose drafts a row gets, what it counts."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import prometheus_client
import pytest
import torch

import tiny
from built import many_rows
from served import END, Served, Server
from tasc.corpus import TokenCorpus, fingerprint
from tasc.decode import _vllm_repair
from tasc.decode._vllm_repair import expand_batch_to_tokens
from tasc.decode.batch import BatchStats
from tasc.decode.vllm import MOST_MEMORY, Metrics, Proposer, ServeOptions, check_names, load_drafters
from tasc.draft import Drafter
from tasc.draft.cost import StepCost
from tasc.draft.interface import SOURCES
from tasc.errors import DataError, DrafterFileError, FingerprintError, ModelError, OptionError, VocabularyError
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram

WIDTH = 24
TEXT = {"one": [11, 12, 13, 14, 15], "two": [11, 22, 23, 24, 25]}  # what the drafters know


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model's tokenizer and drafters for it: one.tasc, two.tasc, wrong.tasc."""
    path = tmp_path_factory.mktemp("model")
    tokenizer = tiny.byte_level_bpe()
    tokenizer.save_pretrained(path)
    for name, print_ in (("one", fingerprint(tokenizer)), ("two", fingerprint(tokenizer)), ("wrong", "other")):
        outputs = TokenCorpus.from_rows([TEXT.get(name, [1])] * 3, print_)
        Drafter.build(outputs, eos_id=END, vocab_size=len(tokenizer)).save(path / f"{name}.tasc")
    return path


@pytest.fixture(autouse=True)
def clean_registry():
    yield
    registry: Any = prometheus_client.REGISTRY
    for collector in {c for name, c in registry._names_to_collectors.items() if name.startswith("tasc:")}:
        registry.unregister(collector)


def config(folder, drafters=None, *, adapters=False, rank=0, most=4, model=None, **options) -> Any:
    """What of vLLM's configuration is read; paths of drafters are names in the folder."""
    drafters = {name: str(folder / f"{file}.tasc") for name, file in (drafters or {"": "one"}).items()}
    described = dict(
        model=str(folder), tokenizer=str(folder), served_model_name="base", max_model_len=WIDTH,
        get_vocab_size=lambda: 1000, is_hybrid=False, is_attention_free=False, has_inner_state=False,
    )  # fmt: skip
    return SimpleNamespace(
        additional_config={"tasc": {"drafters": drafters} | options},
        model_config=SimpleNamespace(**described | (model or {})),
        lora_config=SimpleNamespace(max_loras=2) if adapters else None,
        parallel_config=SimpleNamespace(rank=rank, tensor_parallel_size=2, pipeline_parallel_size=1),
        speculative_config=SimpleNamespace(num_speculative_tokens=most),
        device_config=SimpleNamespace(device_type="cuda"),
    )


class Runner:
    """Calls the proposer as vLLM's model runner does: from a method, with its batch at hand."""

    def __init__(self, proposer: Proposer, adapters: dict[int, str] | None = None, numbers=(0, 0, 0, 0)) -> None:
        self.proposer, self.server = proposer, Server(4, WIDTH)
        known = {number: SimpleNamespace(lora_name=name) for number, name in (adapters or {}).items()}
        mapping = np.array([*numbers, 1, 2], np.int64)  # slots that are not in use hold anything
        self.min_toks: dict[int, tuple[Any, ...]] = {}
        processors = [SimpleNamespace(), SimpleNamespace(min_toks=self.min_toks)]
        self.input_batch = SimpleNamespace(
            lora_id_to_lora_request=known,
            request_lora_mapping=mapping,
            num_prompt_tokens=np.full(4, 2),
            logitsprocs=SimpleNamespace(non_argmax_invariant=processors),
        )

    def draft(self, *new_ids):
        """Drafts after a pass that brought these ids, each to a row of its own."""
        for row in range(len(self.server.rows), len(new_ids)):
            self.server.come(Served([5, 6 + row]))
        sampled = self.server.step(iter(new_ids))
        got = self.proposer.propose(sampled, self.server.lengths, self.server.tokens, slot_mappings=None)
        self.server.take(got)
        return got


ONE, TWO = [12, 13, 14, 15], [22, 23, 24, 25]  # what they draft after 11


def test_every_request_gets_the_drafts_of_the_one_drafter(folder):
    assert Runner(Proposer(config(folder))).draft([11], [11, 12], [11, END]) == [ONE, [13, 14, 15, END], []]


def test_drafts_are_no_longer_than_vllm_makes_room_for(folder):
    assert Runner(Proposer(config(folder, most=2))).draft([11]) == [ONE[:2]]


def test_without_adapters_the_served_name_decides(folder):
    served = {"served_model_name": ["base", "alias"]}
    for drafters, expected in (
        ({"base": "one", "": "two"}, ONE),
        ({"": "two", "base": "one"}, ONE),
        ({"alias": "two"}, TWO),
    ):
        assert Runner(Proposer(config(folder, drafters, model=served))).draft([11]) == [expected]


def test_drafts_end_before_the_first_token_that_may_end_a_row(folder):
    runner = Runner(Proposer(config(folder)))
    runner.min_toks |= {row: (least, [], {END}, False) for row, least in enumerate((4, 3, 2))}
    assert runner.draft([11], [11], [11], [11]) == [ONE[:2], ONE[:1], [], ONE]
    runner.min_toks[1] = (2, [], {END}, False)  # vLLM removes it with the next pass
    rest = [*ONE[1:], END]
    assert runner.draft([12], [12], [12], [12]) == [rest[:1], rest, rest, rest]


ADAPTERS = {1: "first", 2: "second"}


@pytest.mark.parametrize(
    ("drafters", "expected"),
    [
        ({"first": "one"}, [[], ONE, []]),
        ({"first": "one", "second": "two"}, [[], ONE, TWO]),
        ({"first": "one", "": "two"}, [TWO, ONE, TWO]),
        ({"base": "one", "second": "two"}, [ONE, [], TWO]),
        ({"": "one"}, [ONE, ONE, ONE]),
        ({"base": "one"}, [ONE, [], []]),
    ],
)
def test_rows_get_drafts_by_the_name_of_their_adapter(folder, drafters, expected):
    runner = Runner(Proposer(config(folder, drafters, adapters=True)), ADAPTERS, [0, 1, 2])
    assert runner.draft([11], [11], [11]) == expected


def test_a_slot_that_changes_hands_changes_its_drafter(folder):
    runner = Runner(Proposer(config(folder, {"first": "one", "second": "two"}, adapters=True)), ADAPTERS, [1, 2])
    assert runner.draft([11], [11]) == [ONE, TWO]
    runner.server.swap(0, 1)
    runner.input_batch.request_lora_mapping[:2] = [2, 1]
    assert runner.draft([22], [12]) == [[*TWO[1:], END], [*ONE[1:], END]]


def test_switched_off_it_drafts_and_counts_nothing(folder):
    proposer = Proposer(config(folder, enabled=False))
    assert Runner(proposer).draft([11], [11]) == [[], []]
    assert count("tasc:passes_total", drafting="on") is None


def test_without_drafters_it_says_what_is_missing(folder):
    for additional in (None, {}, {"tasc": None}, {"tasc": {}}):
        given = config(folder)
        given.additional_config = additional
        with pytest.raises(OptionError, match="drafters"):
            Proposer(given)


@pytest.mark.parametrize("kind", ["is_hybrid", "is_attention_free", "has_inner_state"])
def test_models_whose_state_cannot_be_rolled_back_are_refused(folder, kind):
    with pytest.raises(ModelError, match="recurrent state; serve it without a drafter"):
        Proposer(config(folder, model={kind: True}))


def test_drafters_of_another_tokenizer_are_refused(folder):
    with pytest.raises(FingerprintError, match=r"wrong\.tasc was built with tokenizer other"):
        Proposer(config(folder, {"": "wrong"}))


def test_drafters_with_more_ids_than_the_model_are_refused(folder):
    n_ids = Drafter.load(folder / "one.tasc").vocab_size
    Proposer(config(folder, model={"get_vocab_size": lambda: n_ids}))
    with pytest.raises(ModelError, match=rf"one\.tasc has {n_ids} ids, \S+ {n_ids - 1}; use the drafter"):
        Proposer(config(folder, model={"get_vocab_size": lambda: n_ids - 1}))


def test_files_that_are_missing_are_named(folder):
    with pytest.raises((DrafterFileError, OSError), match=r"none\.tasc"):
        Proposer(config(folder, {"": "none"}))
    with pytest.raises(VocabularyError, match="no-such-folder"):
        Proposer(config(folder, vocabulary="no-such-folder"))
    with pytest.raises((DataError, OSError), match=r"no-such\.json"):
        Proposer(config(folder, cost="no-such.json"))


def test_costs_come_from_the_file_that_is_named(folder, tmp_path):
    """Passes get so dear with their tokens that no draft pays."""
    StepCost((1, 2), (1,), (0,), [[[1.0, 100.0]]]).save(tmp_path / "cost.json")
    proposer = Proposer(config(folder, cost=str(tmp_path / "cost.json")))
    assert Runner(proposer).draft([11]) == [[]]


SERVED = """
import sys
from pathlib import Path

from numba.core.dispatcher import Dispatcher

from built import many_rows
from served import END, Server
from test_vllm import Runner, config
from tasc.decode.vllm import Proposer


def loaded():
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("tasc.")]
    kernels = {value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)}
    return {
        f"{kernel.__module__}.{kernel.__name__}{signature}"
        for kernel in kernels
        for signature in kernel.signatures
        if not kernel.targetoptions.get("forceinline")  # those are parts of others
    }


proposer = Proposer(config(Path(sys.argv[1]), memory_tokens=2000, model={"max_model_len": 1024}))
before = loaded()
runner = Runner(proposer)
runner.server = Server(4, 1024)
outputs = [output for _, output in many_rows(40)]
for output in [*outputs[:20], [9 + k % 7 for k in range(600)], *outputs[20:]]:
    left = [*output, END]
    while left:
        runner.draft(left[:6])
        left = left[6:]
    runner.server.sweep()
print(sum(proposer._drafts.stats.drafted), len(proposer._drafts.memories[0]), sorted(loaded() - before))
"""


def test_no_request_waits_for_a_kernel(tmp_path):
    """Outputs that are remembered, and one that outgrows what its memory has room for at first."""
    tokenizer = tiny.byte_level_bpe()
    tokenizer.save_pretrained(tmp_path)
    prompts, outputs = (TokenCorpus.from_rows(part, fingerprint(tokenizer)) for part in zip(*many_rows(), strict=True))
    Drafter.build(outputs, prompts, eos_id=END, vocab_size=len(tokenizer)).save(tmp_path / "one.tasc")
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    script = f"import sys; sys.path[:0] = {paths}\n{SERVED}"
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    drafted, remembered, late = result.stdout.split(" ", 2)
    assert int(drafted) > 50
    assert int(remembered) > 20
    assert late.strip() == "[]"


def test_the_model_s_own_n_grams_are_found(folder, tmp_path):
    tokenizer = tiny.byte_level_bpe()
    tokenizer.save_pretrained(tmp_path)
    size = len(tokenizer)
    vocabulary = EnrichedVocabulary(size, (Ngram((5, 6), (5, 6)),), fingerprint=fingerprint(tokenizer))
    vocabulary.save(tmp_path)
    outputs = TokenCorpus.from_rows([[11, size, 12]], fingerprint(tokenizer))
    Drafter.build(outputs, eos_id=END, vocab_size=size + 1).save(tmp_path / "one.tasc")
    options = ServeOptions(drafters={"": str(tmp_path / "one.tasc")})
    assert load_drafters(options, str(tmp_path), size + 1)[1] == vocabulary
    elsewhere = ServeOptions(**options.to_json(), vocabulary=str(tmp_path))
    assert load_drafters(elsewhere, str(folder), size + 1)[1] == vocabulary
    with pytest.raises(FingerprintError, match="built without the model's n-grams"):
        load_drafters(ServeOptions(drafters={"": str(folder / "one.tasc")}), str(tmp_path), size + 1)


def test_names_that_are_not_served_are_refused(folder):
    check_names(["", "base"], ["base", "alias"])
    with pytest.raises(OptionError, match="drafter for 'bse', but served are base, alias; use one of these names"):
        check_names(["bse"], ["base", "alias"])
    with pytest.raises(OptionError, match="served are base;"):
        Proposer(config(folder, {"bse": "one"}))
    Proposer(config(folder, {"an adapter that comes later": "one"}, adapters=True))


FILES = {"drafters": {"": "a.tasc"}}


def test_one_file_is_for_every_request():
    assert ServeOptions.of({"drafters": "a.tasc"}) == ServeOptions.of(FILES)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "must be an object with 'drafters', got None"),
        ([], r"must be an object with 'drafters', got \[\]"),
        (
            FILES | {"drafter": 1},
            "unknown tasc option 'drafter'; known are adapt, cost, drafters, enabled, memory_tokens",
        ),
        ({}, "must name at least one drafter file, got {}; build one with 'tasc draft build'"),
        ({"drafters": {}}, "must name at least one drafter file"),
        ({"drafters": {"": 1}}, "must name at least one drafter file"),
        ({"drafters": ["a.tasc"]}, r"drafters has the wrong type, \['a.tasc'\]; see 'tasc serve --help'"),
        (FILES | {"memory_tokens": True}, "memory_tokens has the wrong type, True"),
        (FILES | {"memory_tokens": 1.5}, "memory_tokens has the wrong type, 1.5"),
        (FILES | {"memory_tokens": -1}, "memory_tokens must be from 0 to 16777216, got -1"),
        (FILES | {"memory_tokens": MOST_MEMORY + 1}, "memory_tokens must be from 0 to"),
        (FILES | {"min_gain": "0.1"}, "min_gain has the wrong type, '0.1'"),
        (FILES | {"min_gain": False}, "min_gain has the wrong type, False"),
        (FILES | {"min_gain": -0.1}, "min_gain must be a number of at least 0, got -0.1"),
        (FILES | {"min_gain": float("nan")}, "min_gain must be a number of at least 0, got nan"),
        (FILES | {"switch_off": 0}, "switch_off has the wrong type, 0"),
        (FILES | {"enabled": "no"}, "enabled has the wrong type, 'no'"),
        (FILES | {"enabled": None}, "enabled has the wrong type, None"),
        (FILES | {"vocabulary": 7}, "vocabulary has the wrong type, 7"),
        (FILES | {"cost": ["a.json"]}, r"cost has the wrong type, \['a.json'\]"),
    ],
)
def test_options_that_cannot_be_used(given, says):
    with pytest.raises(OptionError, match=says) as error:
        ServeOptions.of(given)
    assert "\n" not in str(error.value)


def test_options_go_through_json_and_back():
    plain = ServeOptions.of(FILES)
    assert plain.to_json() == FILES
    assert (plain.memory_tokens, plain.switch_off, plain.enabled) == (0, True, True)
    changed = FILES | {"memory_tokens": MOST_MEMORY, "min_gain": 1, "switch_off": False, "cost": "c.json"}
    assert ServeOptions.of(changed).to_json() == changed


def count(name, **labels) -> float | None:
    return prometheus_client.REGISTRY.get_sample_value(name, labels)


def test_counters_follow_the_stats():
    metrics, stats = Metrics(), BatchStats()
    for step in range(4):
        stats.passes[step % 2] += 1
        for place in range(len(SOURCES)):
            stats.drafted[place] += place + step
            stats.accepted[place] += place
        metrics.update(stats, 0.25)
        metrics.update(stats, 0.0)  # nothing was added
    assert [count("tasc:passes_total", drafting=name) for name in ("on", "paused")] == stats.passes
    for place, source in enumerate(SOURCES):
        assert (count("tasc:drafted_tokens_total", source=source) or 0) == stats.drafted[place]
        assert (count("tasc:accepted_tokens_total", source=source) or 0) == stats.accepted[place]
    assert count("tasc:draft_seconds_total") == 1


def test_a_proposer_counts_what_became_of_its_drafts(folder):
    proposer = Proposer(config(folder))
    runner = Runner(proposer)
    runner.draft([11], [11])
    runner.draft([12, 13, 9], [8])
    stats = proposer._drafts.stats
    assert count("tasc:passes_total", drafting="on") == stats.passes[0] == 2
    assert sum(count("tasc:drafted_tokens_total", source=name) or 0 for name in SOURCES) == sum(stats.drafted) == 8
    assert sum(count("tasc:accepted_tokens_total", source=name) or 0 for name in SOURCES) == sum(stats.accepted) == 2
    assert count("tasc:draft_seconds_total") > 0


def test_one_rank_counts_and_all_draft(folder):
    first = Runner(Proposer(config(folder)))
    second = Runner(Proposer(config(folder, rank=1)))
    assert first.draft([11]) == second.draft([11]) == [ONE]
    assert count("tasc:passes_total", drafting="on") == 1


def test_engines_that_follow_each_other_in_a_process_do_not_clash(folder):
    Runner(Proposer(config(folder))).draft([11])
    later = Runner(Proposer(config(folder)))
    later.draft([11])
    later.draft([12])
    assert count("tasc:passes_total", drafting="on") == 2


def test_a_rows_value_reaches_each_of_its_tokens():
    values, ends = torch.tensor([0.5, 0.0, 2.0]), torch.tensor([2, 2, 5], dtype=torch.int32)
    found = expand_batch_to_tokens(values, ends, 5)
    assert found.tolist() == [0.5, 0.5, 2.0, 2.0, 2.0]
    assert found.dtype == torch.float32
    ends = torch.tensor([1, 3, 3])
    assert expand_batch_to_tokens(values, ends, 3, replace_from=0, replace_to=1).tolist() == [0.5, 1.0, 1.0]


def test_vllms_sampler_is_mended_once_and_only_where_it_fails(monkeypatch):
    def as_it_is(x, cu_num_tokens, num_tokens, replace_from=0, replace_to=0):
        return x.new_zeros(num_tokens)

    def constrain(logits, *_):
        return logits.max(dim=1).values.max()  # of nothing, an error

    sampler = SimpleNamespace(expand_batch_to_tokens=as_it_is, apply_sampling_constraints=constrain)
    monkeypatch.setattr(_vllm_repair, "import_module", lambda name: sampler)
    _vllm_repair.repair_sampling()
    assert sampler.expand_batch_to_tokens is expand_batch_to_tokens
    assert sampler.apply_sampling_constraints(torch.zeros(0, 4), None, None).shape == (0, 4)
    assert sampler.apply_sampling_constraints(torch.ones(2, 4), None, None) == 1
    mended = sampler.apply_sampling_constraints
    _vllm_repair.repair_sampling()
    assert sampler.apply_sampling_constraints is mended

    right = SimpleNamespace(
        expand_batch_to_tokens=lambda *a: torch.tensor([0.5, 2.0, 2.0]), apply_sampling_constraints=mended
    )
    kept = right.expand_batch_to_tokens
    monkeypatch.setattr(_vllm_repair, "import_module", lambda name: right)
    _vllm_repair.repair_sampling()
    assert right.expand_batch_to_tokens is kept
