"""Lookup caches: the bytes, the counts against plain Python, and that what is left out changes no draft of llama.cpp's."""

import hashlib
import json
import struct
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasc.corpus import TokenCorpus
from tasc.draft import Drafter, Options, Origin
from tasc.errors import DataError, DrafterFileError, FingerprintError
from tasc.export import export_lookup_caches, llama_cpp
from tasc.export.llama_cpp import (
    DYNAMIC,
    DYNAMIC_THRESHOLDS,
    MOST_DYNAMIC,
    MOST_STATIC,
    SIDECAR,
    STATIC,
    STATIC_THRESHOLDS,
    Threshold,
    write_cache,
)

EOS, SIZE = 0, 40
ROWS = st.lists(st.lists(st.integers(1, 4), max_size=9), min_size=1, max_size=12)
UNLIMITED = 2**31 - 1
# when llama.cpp drafts: draft_min_sample_size_* and draft_min_percent_* of its common/ngram-cache.cpp
STRICT = [Threshold(1, 4, 75), Threshold(2, 3, 66), Threshold(3, 2, 66), Threshold(4, 2, 66)]
LAX_OF_TWO = [Threshold(2, 2, 50)]


def drafter_of(rows, **changes) -> Drafter:
    options = changes.pop("options", Options(preset="paper"))
    return Drafter.build(TokenCorpus.from_rows(rows), eos_id=EOS, vocab_size=SIZE, options=options, **changes)


def read_cache(path):
    """(key, {token: count}) of every record, as llama.cpp reads them; whatever it would stop at is an error."""
    data, at, records = path.read_bytes(), 0, []
    while at < len(data):
        *key, n = struct.unpack_from("<5i", data, at)
        pairs = struct.unpack_from(f"<{2 * n}i", data, at + 20)
        at += 20 + 8 * n
        used = [token for token in key if token != -1]
        assert n > 0
        assert key == used + [-1] * (4 - len(used))
        assert min(pairs[1::2]) > 0
        assert list(pairs[::2]) == sorted(set(pairs[::2]))
        records.append((tuple(used), dict(zip(pairs[::2], pairs[1::2], strict=True))))
    keys = [key for key, _ in records]
    assert len(set(keys)) == len(keys)
    return records


def counted(texts, thresholds, most=UNLIMITED):
    """The same from texts (lists of ids, end tokens included), in plain Python."""
    records = []
    for threshold in thresholds:
        followers = defaultdict(Counter)
        for text in texts:
            for at in range(threshold.n, len(text)):
                followers[tuple(text[at - threshold.n : at])][text[at]] += 1
        for key in sorted(followers):
            counts, top, total = followers[key], max(followers[key].values()), followers[key].total()
            if total < threshold.least or 100 * top < threshold.percent * total:
                continue
            if top > most:
                counts = {token: count * most // top for token, count in counts.items()}
            records.append((key, {token: counts[token] for token in sorted(counts) if counts[token]}))
    return records


def everything(thresholds):
    return [Threshold(threshold.n, 1, 0) for threshold in thresholds]


def try_draft(primary, context, static, thresholds):
    """llama.cpp's choice from a context or dynamic cache, long n-grams first, weighed with the static cache."""
    for threshold in reversed(thresholds):
        if len(context) < threshold.n:
            continue
        part = primary.get(tuple(context[-threshold.n :]), {})
        known = static.get(tuple(context[-2:]), {})
        best = (0, 0, None)
        for token, count in part.items():
            weight = 100 * known[token] if token in known else 1
            if count * weight > best[0] * best[1]:
                best = (count, weight, token)
        enough = sum(part.values()) >= threshold.least and 100 * best[0] >= threshold.percent * sum(part.values())
        if enough and best[2] is not None:
            return best[2]
    return None


def test_layout_by_hand(tmp_path):
    report = export_lookup_caches(drafter_of([[5, 6]] * 4 + [[5, 7]]), tmp_path)
    static = [5, 6, -1, -1, 1, EOS, 4]  # 5 7 was followed only once
    assert (tmp_path / STATIC).read_bytes() == struct.pack("<7i", *static)
    dynamic = [5, -1, -1, -1, 2, 6, 4, 7, 1, 6, -1, -1, -1, 1, EOS, 4, *static]
    assert (tmp_path / DYNAMIC).read_bytes() == struct.pack(f"<{len(dynamic)}i", *dynamic)
    assert report["counts"]["dynamic"][1] == {
        "n": 2, "least": 3, "percent": 66, "ngrams": 2, "written": 1, "followers": 1,
    }  # fmt: skip


@given(ROWS, st.integers(1, 3), st.integers(0, 100), st.integers(1, 5), st.integers(14, 40))
def test_counts_equal_plain_python_whatever_the_buffer(tmp_path_factory, rows, least, percent, most, buffer):
    thresholds = [Threshold(n, least, percent) for n in (1, 2, 3, 4)]
    path = tmp_path_factory.getbasetemp() / "cache.bin"
    index = drafter_of(rows).index
    expected = counted([[*row, EOS] for row in rows], thresholds, most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama_cpp, "_BUFFER", buffer)
        report = write_cache(path, index, thresholds, most=most, may_be_empty=True)
    assert read_cache(path) == expected
    assert sum(found["written"] for found in report) == len(expected)
    assert sum(found["followers"] for found in report) == sum(len(counts) for _, counts in expected)
    assert [found["ngrams"] for found in report] == [
        len(counted([[*row, EOS] for row in rows], [Threshold(n, 1, 0)])) for n in (1, 2, 3, 4)
    ]


@given(ROWS, st.lists(st.integers(0, 4), min_size=2, max_size=4))
def test_what_is_left_out_changes_no_draft(tmp_path_factory, rows, context):
    texts = [[*row, EOS] for row in rows]
    index, path = drafter_of(rows).index, tmp_path_factory.getbasetemp() / "kept.bin"
    write_cache(path, index, DYNAMIC_THRESHOLDS, most=MOST_DYNAMIC, may_be_empty=True)
    dynamic, all_dynamic = dict(read_cache(path)), dict(counted(texts, everything(DYNAMIC_THRESHOLDS)))
    write_cache(path, index, STATIC_THRESHOLDS, most=MOST_STATIC, may_be_empty=True)
    static, all_static = dict(read_cache(path)), dict(counted(texts, everything(STATIC_THRESHOLDS)))
    for weights in ({}, static, all_static):
        assert try_draft(dynamic, context, weights, STRICT) == try_draft(all_dynamic, context, weights, STRICT)
    assert try_draft(static, context, {}, LAX_OF_TWO) == try_draft(all_static, context, {}, LAX_OF_TWO)


def test_all_that_can_be_drafted_is_kept_and_nothing_else(tmp_path):
    rows = [[20, 21, 22, 23, 24], *[[9, 10], [11, 12, 13, 14, 15], [16, 17, 18], [16, 17, 19]] * 2]
    rows += [[7, 8]] * 3 + [[5, 6]] * 4
    export_lookup_caches(drafter_of(rows), tmp_path)
    for name, thresholds in ((STATIC, LAX_OF_TWO), (DYNAMIC, STRICT)):
        cache = dict(read_cache(tmp_path / name))
        assert {len(key) for key in cache} == {threshold.n for threshold in thresholds}
        assert cache == dict(counted([[*row, EOS] for row in rows], thresholds))
        for key in cache:
            assert try_draft({key: cache[key]}, key, {}, thresholds) is not None


def test_no_product_of_counts_leaves_32_bits(tmp_path):
    rows = [[5, 6, 7]] * 11_999 + [[5, 6, 8], [5, 6, 9]]
    export_lookup_caches(drafter_of(rows), tmp_path)
    static, dynamic = dict(read_cache(tmp_path / STATIC)), dict(read_cache(tmp_path / DYNAMIC))
    assert static[5, 6] == {7: MOST_STATIC}  # 1 of 12,001 became 0
    assert dynamic[5, 6] == {7: MOST_DYNAMIC}
    assert 100 * MOST_STATIC * MOST_DYNAMIC < 2**31


@given(ROWS)
def test_ngrams_stay_within_the_parts_that_enough_rows_share(tmp_path_factory, rows):
    drafter = drafter_of(rows, options=Options(preset="paper", min_rows=2))
    parts, path = [[]], tmp_path_factory.getbasetemp() / "parts.bin"
    for token in drafter.index.tokens.tolist():
        if token >= SIZE:
            parts.append([])
        else:
            parts[-1].append(token)
    write_cache(path, drafter.index, everything(DYNAMIC_THRESHOLDS), most=UNLIMITED, may_be_empty=True)
    found = read_cache(path)
    assert found == counted(parts, everything(DYNAMIC_THRESHOLDS))
    in_rows = Counter(
        ngram
        for row in rows
        for ngram in {(*row, EOS)[a:b] for a in range(len(row) + 1) for b in range(a + 1, len(row) + 2)}
    )
    assert all(in_rows[*key, token] >= 2 for key, counts in found for token in counts)


def test_same_files_again_and_a_sidecar_that_says_what_they_are(tmp_path):
    source = tmp_path / "task.tasc"
    drafter_of([[5, 6]] * 4, origin=Origin(fingerprint="sha256:ab", tokenizer="tok")).save(source)
    drafter = Drafter.load(source)
    report = export_lookup_caches(drafter, tmp_path / "a", source=source)
    export_lookup_caches(drafter, tmp_path / "b", source=source)
    for name in (STATIC, DYNAMIC):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    about = json.loads((tmp_path / "a" / SIDECAR).read_text())
    assert about == report
    assert about["target"] == "llama-cpp-lookup"
    assert about["tokenizer"] == {
        "fingerprint": "sha256:ab", "name": "tok", "vocab_size": SIZE, "eos_id": EOS, "vocabulary": "",
    }  # fmt: skip
    assert about["made_from"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (about["made_from"]["rows"], about["made_from"]["tokens"]) == (4, 12)
    for kind, name in (("static", STATIC), ("dynamic", DYNAMIC)):
        data = (tmp_path / "a" / name).read_bytes()
        assert about["files"][kind] == {"file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_a_drafter_of_ngrams_needs_the_word_that_the_gguf_has_them(tmp_path):
    drafter = drafter_of([[5, 6]] * 4, origin=Origin(vocabulary="enriched"))
    with pytest.raises(FingerprintError, match=r"n-grams of enriched.*--enriched"):
        export_lookup_caches(drafter, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert export_lookup_caches(drafter, tmp_path / "out", enriched=True)["options"]["enriched"] is True


def test_too_few_rows_are_refused_and_older_files_stay(tmp_path):
    export_lookup_caches(drafter_of([[5, 6]] * 4), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match="no n-gram of 2 rows"):
        export_lookup_caches(drafter_of([[5, 6], [7, 8]]), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_index_out_of_order_ends_with_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(llama_cpp, "_BUFFER", 8)
    index = drafter_of([[5, 6], [5, 7]] * 30).index
    places = np.flatnonzero(index.tokens == 5).astype(np.int32)  # 6 and 7 alternate behind them
    with pytest.raises(DrafterFileError, match="out of order"):
        write_cache(tmp_path / "cache.bin", replace(index, suffixes=places), [Threshold(1, 1, 0)], most=9)
    assert list(tmp_path.iterdir()) == []


def test_mapped_files_are_read_as_they_are(tmp_path):
    drafter_of([[5, 6]] * 4).save(tmp_path / "task.tasc")
    export_lookup_caches(Drafter.load(tmp_path / "task.tasc"), tmp_path / "mapped")
    export_lookup_caches(drafter_of([[5, 6]] * 4), tmp_path / "built")
    assert (tmp_path / "mapped" / DYNAMIC).read_bytes() == (tmp_path / "built" / DYNAMIC).read_bytes()
