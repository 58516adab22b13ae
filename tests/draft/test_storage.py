"""Drafters in files: they come back as they were, and no file, however made, makes drafting crash or hang."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from built import EOS, SIZE, build, drafts_of, many_rows, same_drafters
from tasc.corpus import TokenCorpus
from tasc.draft import Drafter, Options, Origin
from tasc.draft.file import read_file, write_file
from tasc.errors import DrafterFileError

TESTS = str(Path(__file__).resolve().parent.parent)
ROWS = st.lists(
    st.tuples(st.lists(st.integers(1, 6), max_size=6), st.lists(st.integers(1, 6), max_size=6)), min_size=1, max_size=10
)
OPTIONS = st.builds(Options, preset=st.sampled_from(["best", "paper"]), min_rows=st.integers(1, 3), p_min=st.just(1))


@settings(max_examples=80)
@given(ROWS, OPTIONS)
def test_a_drafter_comes_back_as_it_was(tmp_path_factory, rows, options):
    path = tmp_path_factory.mktemp("stored") / "task.tasc"
    drafter = build(rows, options=options, origin=Origin("sha256:1", "tök", "plain", "n-grams"))
    drafter.save(path)
    loaded = Drafter.load(path)
    same_drafters(loaded, drafter)
    same_drafters(Drafter.load(path, verify=True), drafter)
    assert drafts_of(loaded, rows) == drafts_of(drafter, rows)


def test_a_taught_drafter_comes_back_as_it_was(tmp_path):
    drafter = build(many_rows())
    drafter.save(tmp_path / "task.tasc")
    loaded = Drafter.load(tmp_path / "task.tasc")
    same_drafters(loaded, drafter)
    assert drafts_of(loaded, many_rows(30, seed=3)) == drafts_of(drafter, many_rows(30, seed=3))
    loaded.save(tmp_path / "again.tasc")
    assert (tmp_path / "again.tasc").read_bytes() == (tmp_path / "task.tasc").read_bytes()


def test_what_all_prompts_begin_with_is_written_once(tmp_path):
    """A template in front of each of 400 prompts costs its own length, and comes back in front of each."""
    template, sizes = [1, 2, 3] * 20, []
    for begin in ([], template):
        drafter = build([([*begin, *prompt], output) for prompt, output in many_rows(400)])
        drafter.save(tmp_path / "task.tasc")
        sizes.append((tmp_path / "task.tasc").stat().st_size)
        loaded = Drafter.load(tmp_path / "task.tasc")
        same_drafters(loaded, drafter)
        assert all(row[: len(begin)].tolist() == begin for row in loaded.sample.prompts)
    assert sizes[1] < sizes[0] + 4 * 400


def test_a_drafter_without_prompts_comes_back(tmp_path):
    drafter = Drafter.build(TokenCorpus.from_rows([[1, 2], [1, 3]]), eos_id=EOS, vocab_size=SIZE)
    drafter.save(tmp_path / "task.tasc")
    loaded = Drafter.load(tmp_path / "task.tasc")
    assert (loaded.neighbours, loaded.sample, loaded.reliability) == (None, None, None)
    same_drafters(loaded, drafter)


def test_a_file_replaces_itself_while_it_is_mapped(tmp_path):
    path = tmp_path / "task.tasc"
    build(many_rows(60)).save(path)
    drafter = Drafter.load(path)
    rows, before = many_rows(5), drafts_of(drafter, many_rows(5))
    drafter.update(rows).save(path)
    assert drafts_of(drafter, rows) == before
    assert Drafter.load(path).index.n_rows == 65


# files with right checksums and wrong contents


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    path = tmp_path_factory.mktemp("parts") / "task.tasc"
    build(many_rows()).save(path)
    metadata, arrays = read_file(path)
    return metadata, {name: array.copy() for name, array in arrays.items()}


def change(place, value):
    def changed(array):
        array = array.copy()
        array.reshape(-1)[place] = value
        return array

    return changed


REFUSED = {
    "a suffix behind the text": ("suffixes", change(5, 1 << 20)),
    "a suffix before the text": ("suffixes", change(5, -1)),
    "too few suffixes": ("suffixes", lambda a: a[:-1]),
    "suffixes as int64": ("suffixes", lambda a: a.astype(np.int64)),
    "suffixes as a table": ("suffixes", lambda a: a.reshape(-1, 1)),
    "a token above the markers": ("tokens", change(3, SIZE + 2)),
    "a negative token": ("tokens", change(3, -5)),
    "no text at all": ("tokens", lambda a: a[:0]),
    "ids that fall": ("ids", lambda a: a[::-1].copy()),
    "an id twice": ("ids", change(1, 0)),
    "an id above the markers": ("ids", change(-1, SIZE + 2)),
    "starts that fall": ("starts", change(2, 0)),
    "starts that end early": ("starts", change(-1, 3)),
    "starts that begin late": ("starts", change(0, 1)),
    "no starts": ("starts", lambda a: a[:0]),
    "a spelling of no token": ("variants", lambda _: np.array([[SIZE, 1]], np.int32)),
    "a spelling by no token": ("variants", lambda _: np.array([[1, SIZE]], np.int32)),
    "a negative spelling": ("variants", lambda _: np.array([[-1, 1]], np.int32)),
    "spellings as a row": ("variants", lambda _: np.array([1, 2], np.int32)),
    "spellings of three": ("variants", lambda _: np.array([[1, 2, 3]], np.int32)),
    "a weight that is no number": ("weights", change(7, np.nan)),
    "an endless weight": ("weights", change(7, np.inf)),
    "too few weights": ("weights", lambda a: a[:-1]),
    "weights in half precision": ("weights", lambda a: a.astype(np.float16)),
    "a posting behind the rows": ("postings", change(0, 150)),
    "a negative posting": ("postings", change(0, -1)),
    "too few postings": ("postings", lambda a: a[:-1]),
    "terms that fall": ("term_ids", lambda a: a[::-1].copy()),
    "term starts that fall": ("term_starts", change(3, 0)),
    "term starts that go too far": ("term_starts", change(-1, 1 << 20)),
    "a term of no row": ("term_starts", lambda a: np.concatenate([a[:1], a[:-2], a[-1:]])),
    "too few term starts": ("term_starts", lambda a: a[:-1]),
    "a negative norm": ("norms", change(0, -1.0)),
    "a norm that is no number": ("norms", change(0, np.nan)),
    "too few norms": ("norms", lambda a: a[:-1]),
    "norms in double precision": ("norms", lambda a: a.astype(np.float16)),
    "a sampled row behind the rows": ("sample_rows", change(0, 150)),
    "a negative sampled row": ("sample_rows", change(0, -1)),
    "fewer sampled rows than prompts": ("sample_rows", lambda a: a[:-1]),
    "a negative token in a prompt": ("sample_tokens", change(0, -1)),
    "a negative token in front of the prompts": ("sample_prefix", lambda _: np.array([-1], np.int32)),
    "an endless prefix of the prompts": ("sample_prefix", lambda _: np.full(10**5, 7, np.int32)),
    "a prefix of the prompts in floats": ("sample_prefix", lambda a: a.astype(np.float32)),
    "prompts that fall": ("sample_offsets", change(2, 0)),
    "prompts that go too far": ("sample_offsets", change(-1, 1 << 40)),
    "a prefix of floats": ("prefix", lambda a: a.astype(np.float32)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_that_would_lead_astray_are_refused(tmp_path, parts, name):
    metadata, arrays = parts
    array, broken = REFUSED[name]
    _refused(tmp_path / "task.tasc", metadata, arrays | {array: broken(arrays[array])})


def _refused(path, metadata, arrays):
    write_file(path, arrays, metadata)
    with pytest.raises(DrafterFileError) as caught:
        Drafter.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("; rebuild it with 'tasc draft build'")
    assert "\n" not in message


def test_terms_without_rows_are_refused(tmp_path, parts):
    metadata, arrays = parts
    none = {"tokens", "suffixes", "ids", "postings", "norms", "prefix", "sample_rows", "sample_prefix", "sample_tokens"}
    changed = {name: array[:0] if name in none else array for name, array in arrays.items()}
    changed |= {name: array[:1] for name, array in arrays.items() if name in ("starts", "sample_offsets")}
    _refused(tmp_path / "task.tasc", metadata, changed | {"term_starts": np.zeros_like(arrays["term_starts"])})


def test_missing_arrays_are_refused(tmp_path, parts):
    metadata, arrays = parts
    optional = {"term_ids", "sample_rows"}  # without these a drafter does without prompts
    for name in arrays.keys() - optional:
        _refused(tmp_path / "task.tasc", metadata, {key: arrays[key] for key in arrays if key != name})


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 0},
        {"vocab_size": -1},
        {"vocab_size": 1 << 30},
        {"vocab_size": 40.0},
        {"vocab_size": True},
        {"vocab_size": "40"},
        {"vocab_size": SIZE - 2},
        {"vocab_size": None},
        {"eos_id": SIZE},
        {"eos_id": -1},
        {"eos_id": [0]},
        {"options": {}, "weights": 0},
        {"options": {"preset": "better"}},
        {"options": {"preset": "best", "min_rows": "many"}},
        {"options": {"preset": "paper", "n_max": 0}},
        {"options": {"preset": "paper", "p_min": 0}},
        {"options": {"preset": "paper", "lam": 7}},
        {"options": {"preset": "paper", "lam": None}},
        {"options": {"preset": "paper", "n_max": "4"}},
        {"options": {"preset": "paper", "n_max": 2.5}},
        {"options": {"levels": 4}},
        {"options": None},
        {"options": "best"},
        {"origin": {"fingerprint": 3}},
        {"origin": {"home": "here"}},
        {"origin": None},
        {"reliability": {}},
        {"reliability": {"counts": 3, "predicted": [], "observed": []}},
        {"reliability": {"counts": ["x"], "predicted": [1], "observed": [1]}},
        {"reliability": {"counts": [1], "predicted": [1, 2], "observed": [1]}},
        {"tuned": {}},
        {"tuned": 3},
    ],
)
def test_metadata_that_cannot_be_used_are_refused(tmp_path, parts, changes):
    metadata, arrays = parts
    if "weights" in changes:
        arrays = {name: array for name, array in arrays.items() if name != "weights"}
    _refused(tmp_path / "task.tasc", metadata | changes, arrays)


def test_missing_metadata_are_refused(tmp_path, parts):
    metadata, arrays = parts
    for name in metadata:
        _refused(tmp_path / "task.tasc", {key: metadata[key] for key in metadata if key != name}, arrays)


def _row_starts_gone(arrays):
    # ids say that no row begins anywhere, or everywhere
    return {"tokens": np.where(arrays["tokens"] == SIZE, 1, arrays["tokens"]).astype(np.int32)}


ODD = {
    "suffixes in no order": lambda a: {"suffixes": a["suffixes"][::-1].copy()},
    "one suffix only": lambda a: {"suffixes": np.full_like(a["suffixes"], len(a["suffixes"]) - 1)},
    "the first suffix only": lambda a: {"suffixes": np.zeros_like(a["suffixes"])},
    "a text without rows": _row_starts_gone,
    "a text of markers": lambda a: {"tokens": np.full_like(a["tokens"], SIZE)},
    "a text of markers of parts": lambda a: {"tokens": np.full_like(a["tokens"], SIZE + 1)},
    "a text of end tokens": lambda a: {"tokens": np.full_like(a["tokens"], EOS)},
    "tokens in another order": lambda a: {"tokens": np.sort(a["tokens"])},
    "rows that begin in suffixes of others": lambda a: {"suffixes": np.roll(a["suffixes"], 7)},
    "starts that all end": lambda a: {"starts": np.array([0, *[len(a["tokens"])] * (len(a["starts"]) - 1)], np.int32)},
    "huge weights": lambda a: {"weights": np.full_like(a["weights"], 3e38)},
    "huge weights of both signs": lambda a: {
        "weights": (3e38 * (-1.0) ** np.arange(len(a["weights"]))).astype(np.float32)
    },
    "spellings that swap": lambda a: {"variants": np.array([[1, 2], [2, 1], [3, 3], [5, 0]], np.int32)},
    "norms of zero": lambda a: {"norms": np.zeros_like(a["norms"])},
    "endless norms": lambda a: {"norms": np.full_like(a["norms"], np.inf)},
    "tiny norms": lambda a: {"norms": np.full_like(a["norms"], 1e-40)},
    "one row in all postings": lambda a: {"postings": np.zeros_like(a["postings"])},
    "terms of no token": lambda a: {"term_ids": np.arange(len(a["term_ids"]), dtype=np.int32) - 10**6},
    "a term with all rows": lambda a: {
        "term_starts": np.array([0, *[len(a["postings"])] * (len(a["term_starts"]) - 1)], np.int32)
    },
    "an endless prefix": lambda a: {"prefix": np.full(10**5, 7, np.int32)},
    "a negative prefix": lambda a: {"prefix": np.full(5, -7, np.int32)},
    "one row sampled again and again": lambda a: {"sample_rows": np.zeros_like(a["sample_rows"])},
    "prompts of unknown tokens": lambda a: {"sample_tokens": np.full_like(a["sample_tokens"], 2**31 - 1)},
}

USE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from built import SIZE, drafts_of, many_rows
from tasc.draft import Drafter, Memory
from tasc.errors import TascError
rows = [*many_rows(20, seed=5), ([], [1, 2]), ([7, 8], [SIZE, SIZE + 1, 2]), ([2**31 - 1, -5], [2**31 - 1, -5, 2])]
memory = Memory()
memory.add(*rows[0])
answers = {}
for path in sys.argv[2:]:
    print(path, file=sys.stderr)
    try:
        drafter = Drafter.load(path)
        found = drafts_of(drafter, rows) + drafts_of(drafter, rows[:5], memory=memory)
        answers[path] = max(t for tokens, _, _ in found for t in [*tokens, -1]) < SIZE and min(
            t for tokens, _, _ in found for t in [*tokens, 0]) >= 0
        drafter.update(rows[:3])
    except TascError as error:
        answers.setdefault(path, type(error).__name__)
print(json.dumps(answers))
"""


def use(paths, env):
    done = subprocess.run(
        [sys.executable, "-c", USE, TESTS, *map(str, paths)],
        capture_output=True, text=True, timeout=900, env=env, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return {Path(path).stem: answer for path, answer in json.loads(done.stdout.splitlines()[-1]).items()}


def broken_files(folder, metadata, arrays, n_random):
    """The odd files by name, and files in which random places hold random values that pass for good ones."""
    found = {name: arrays | odd(arrays) for name, odd in ODD.items()}
    rng = np.random.default_rng(0)
    for number in range(n_random):
        found[f"random {number}"] = changed = {name: array.copy() for name, array in arrays.items()}
        for name in rng.choice(list(arrays), 3, replace=False):
            flat = changed[name].reshape(-1)
            places = rng.integers(0, len(flat), int(rng.integers(1, len(flat) + 1)))
            flat[places] = rng.choice(flat, len(places))  # values of the same array, so most stay within bounds
            if name in ("starts", "term_starts", "ids", "term_ids", "sample_offsets"):
                flat.sort()
                flat[-1] = arrays[name][-1]
    for number, content in enumerate(found.values()):
        write_file(folder / f"{number}.tasc", content, metadata)
    return dict(zip((str(number) for number in range(len(found))), found, strict=True))


def check_broken_files(folder, parts, n_random, env):
    names = broken_files(folder, *parts, n_random)
    answers = use([folder / f"{stem}.tasc" for stem in names], env)
    fine = (True, "DrafterFileError", "DataError")
    assert {names[stem]: answer for stem, answer in answers.items() if answer not in fine} == {}
    assert answers.keys() == names.keys()
    assert sum(answer is True for answer in answers.values()) >= len(names) / 4  # else nothing was tried


def test_odd_arrays_are_refused_or_drafted_from_safely(tmp_path, parts):
    check_broken_files(tmp_path, parts, 40, dict(os.environ))


@pytest.mark.slow
def test_kernels_stay_within_the_arrays_of_odd_files(tmp_path, parts):
    env = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}  # minutes of compiling
    check_broken_files(tmp_path, parts, 150, env)
