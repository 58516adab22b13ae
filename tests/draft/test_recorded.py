"""Logs of requests: what is written comes back, also after a crash, and damage is named."""

import json
import multiprocessing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasc.draft.recorded import Recorded, append_log, read_log
from tasc.errors import DataError, FingerprintError


@st.composite
def requests(draw: st.DrawFn) -> Recorded:
    ids = st.integers(0, 2**31 - 1)
    output = draw(st.lists(ids, min_size=1, max_size=12))
    left, drafted, accepted = len(output), [], []
    while left:
        accepted.append(draw(st.integers(0, min(left, 4))))
        drafted.append(accepted[-1] + draw(st.integers(0, 3)))
        left -= min(accepted[-1] + 1, left)
    return Recorded(
        tuple(draw(st.lists(ids, max_size=5))),
        tuple(output),
        tuple(drafted),
        tuple(accepted),
        draw(st.none() | st.integers(1, 100)),
        draw(st.none() | st.integers(0, 10**6).map(lambda n: n / 1000)),
        draw(st.integers(0, 9)),
        draw(st.just(()) | st.just(tuple(map(one_deep, accepted, drafted)))),
    )


def one_deep(accepted: int, drafted: int) -> int:
    """The depth of a draft that holds what was accepted and alternatives."""
    return max(accepted, min(drafted, 1))


ONE = Recorded((1, 2), (3, 4, 5), (2, 0), (1, 0), 20, 1.5, 0)
TWO = Recorded((9,), (8,), (0,), (0,), None, None, 1)


@given(st.lists(requests(), max_size=5), st.lists(requests(), max_size=5))
def test_appended_requests_come_back_in_order(tmp_path_factory, first, second):
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    append_log(path, first, about={"fingerprint": "f", "max_draft": 10})
    append_log(path, second, about={"fingerprint": "f"})
    log = read_log(path)
    assert log.requests == first + second
    assert log.about == {"fingerprint": "f", "max_draft": 10}


def test_a_draft_without_a_depth_was_a_chain(tmp_path):
    tree = replace(ONE, depths=(1, 0))
    append_log(tmp_path / "run.jsonl", [ONE, tree])
    assert [one.depths for one in read_log(tmp_path / "run.jsonl").requests] == [(2, 0), (1, 0)]
    assert ONE.took_the_passes_of(replace(ONE, ms=2.0, depths=()))
    assert not ONE.took_the_passes_of(tree)


def test_passes_and_tokens_per_pass():
    assert (ONE.passes, ONE.tokens_per_pass) == (2, 1.5)
    assert Recorded((), (), (), ()).tokens_per_pass == 0


@pytest.mark.parametrize("n_left", [1, 7, 20])
def test_an_unfinished_line_is_skipped_and_then_removed(tmp_path, n_left):
    path = tmp_path / "run.jsonl"
    append_log(path, [ONE, TWO])
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[: last + n_left])
    assert read_log(path).requests == [ONE]
    append_log(path, [TWO])
    assert path.read_bytes() == whole


def test_an_unfinished_line_longer_than_a_block_is_removed(tmp_path):
    path = tmp_path / "run.jsonl"
    append_log(path, [ONE])
    whole = path.read_bytes()
    path.write_bytes(whole + b"[" * 200_000)
    append_log(path, [TWO])
    assert read_log(path).requests == [ONE, TWO]


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "7",
        "{",
        '{"prompt_ids": [1], "output_ids": [1], "drafted": [0], "accepted": [1]}',
        '{"prompt_ids": [1], "output_ids": [1, 2], "drafted": [0], "accepted": [0]}',
        '{"prompt_ids": [1], "output_ids": [1], "drafted": [0, 0], "accepted": [0, 0]}',
        '{"prompt_ids": [1], "output_ids": [1], "drafted": [0], "accepted": []}',
        '{"prompt_ids": [-1], "output_ids": [1], "drafted": [0], "accepted": [0]}',
        '{"prompt_ids": [1.5], "output_ids": [1], "drafted": [0], "accepted": [0]}',
        '{"prompt_ids": [true], "output_ids": [1], "drafted": [0], "accepted": [0]}',
        '{"prompt_ids": [4294967296], "output_ids": [1], "drafted": [0], "accepted": [0]}',
        '{"prompt_ids": [1], "output_ids": [1], "drafted": [0], "accepted": [0], "ms": NaN}',
        '{"prompt_ids": [1], "output_ids": [1], "drafted": [0], "accepted": [0], "ms": "1"}',
        '{"prompt_ids": [1], "output_ids": [1], "drafted": [0], "accepted": [0], "slot": "0"}',
        '{"prompt_ids": [1], "output_ids": [1], "drafted": [2], "accepted": [1], "depths": [3]}',
        '{"prompt_ids": [1], "output_ids": [1], "drafted": [2], "accepted": [1], "depths": [0]}',
        '{"prompt_ids": [1], "output_ids": [1], "drafted": [2], "accepted": [1], "depths": [1, 1]}',
        '{"prompt_ids": [1], "output_ids": [1], "drafted": [2], "accepted": [1], "depths": 1}',
    ],
)
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "run.jsonl"
    append_log(path, [ONE])
    with path.open("a") as file:
        file.write(line + "\n" + json.dumps({}) + "\n")
    with pytest.raises(DataError, match="line 3 is no recorded request"):
        read_log(path)


@pytest.mark.parametrize("text", ["", "{}\n", "hello\n", '{"format": "tasc-recorded", "version": 2}\n'])
def test_other_files_are_refused_and_left_alone(tmp_path, text):
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(DataError):
        read_log(path)
    if text:
        with pytest.raises(DataError):
            append_log(path, [ONE])
        assert path.read_text() == text


def test_logs_of_models_with_and_without_ngrams_do_not_mix(tmp_path):
    path = tmp_path / "run.jsonl"
    append_log(path, [ONE], about={"fingerprint": "a", "ngrams": ""})
    with pytest.raises(FingerprintError, match="recorded with n-grams none, got d1"):
        append_log(path, [ONE], about={"fingerprint": "a", "ngrams": "d1"})
    append_log(path, [ONE], about={"fingerprint": "a"})  # does not say
    append_log(path, [ONE], about={"fingerprint": "a", "ngrams": ""})
    assert read_log(path).requests == [ONE] * 3


def test_logs_of_two_tokenizers_do_not_mix(tmp_path):
    path = tmp_path / "run.jsonl"
    append_log(path, [ONE], about={"fingerprint": "a"})
    with pytest.raises(FingerprintError, match="recorded with tokenizer a, got b"):
        append_log(path, [ONE], about={"fingerprint": "b"})
    assert read_log(path).requests == [ONE]


def test_passes_must_add_up():
    with pytest.raises(DataError, match="come from no pass"):
        Recorded((), (1, 2), (0,), (0,))
    with pytest.raises(DataError, match="record it again"):
        Recorded((), (1, 2), (1,), (2,))


LONG = Recorded(tuple(range(3000)), (7, 0), (0, 0), (0, 0))


def _append_often(folder, barrier):
    for k in range(5):
        barrier.wait()
        for _ in range(20):
            append_log(folder / f"{k}.jsonl", [LONG] * 8, about={"fingerprint": "f"})


def test_two_processes_append_to_one_log(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    writers = [context.Process(target=_append_often, args=(tmp_path, barrier)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    for k in range(5):
        assert read_log(tmp_path / f"{k}.jsonl").requests == [LONG] * 320


def test_a_log_is_locked_before_it_is_read(tmp_path, monkeypatch):
    path, held = tmp_path / "run.jsonl", []
    append_log(path, [ONE])

    def recording(descriptor):
        held.append(path.read_bytes())
        return True

    monkeypatch.setattr("tasc.draft.recorded.lock", recording)
    before = path.read_bytes()
    append_log(path, [TWO])
    assert held == [before]
