import json
import random
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open

from tasc.draft import file as module
from tasc.draft.file import read_file, write_file
from tasc.errors import DrafterFileError

DTYPES = ["int64", "int32", "uint32", "uint16", "uint8", "float32", "float16"]
ARRAYS = {
    "tokens": np.arange(7, dtype=np.int32),
    "offsets": np.array([0, 3, 7], dtype=np.int64),
    "table": np.arange(6, dtype=np.float16).reshape(2, 3),
    "kinds": np.array([1, 2, 3], dtype=np.uint8),
    "empty": np.empty((0, 4), np.uint16),
}
METADATA = {"fingerprint": "sha256:0", "options": {"n_max": 4, "weight": 0.75}, "names": ["ä", None, True]}


@pytest.fixture
def path(tmp_path):
    written = tmp_path / "task.tasc"
    write_file(written, ARRAYS, METADATA)
    return written


def check_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def refused(path, reason=None, **options):
    """The file is refused by the one error, whose message names file, reason and next step."""
    with pytest.raises(DrafterFileError, match=reason) as caught:
        read_file(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("; rebuild it with 'tasc draft build'")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
SOME_ARRAYS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_.]{0,10}", fullmatch=True),
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    ),
    max_size=5,
)


@settings(deadline=None)
@given(SOME_ARRAYS, st.dictionaries(st.text(), JSON, max_size=4))
def test_arrays_and_metadata_come_back(tmp_path_factory, arrays, metadata):
    path = tmp_path_factory.mktemp("drafter") / "task.tasc"
    write_file(path, arrays, metadata)
    found_metadata, found = read_file(path, verify=True)
    assert found_metadata == metadata
    check_equal(found, arrays)
    for array in found.values():
        assert array.ctypes.data % array.dtype.itemsize == 0
        assert not array.flags.writeable


def test_the_bytes_depend_on_nothing_but_the_content(path, tmp_path):
    write_file(tmp_path / "again", dict(reversed(ARRAYS.items())), METADATA)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_arrays_of_any_memory_layout_are_stored_in_row_order(tmp_path):
    table = np.arange(24, dtype=np.int32).reshape(4, 6)
    arrays = {"turned": table.T, "part": table[::2, 1:3], "fortran": np.asfortranarray(table)}
    write_file(tmp_path / "a", arrays, {})
    check_equal(read_file(tmp_path / "a")[1], arrays)


def test_is_a_safetensors_file(path):
    with safe_open(path, framework="numpy") as opened:
        check_equal({name: opened.get_tensor(name) for name in opened.keys()}, ARRAYS)  # noqa: SIM118
        metadata = opened.metadata()
    assert (metadata["format"], metadata["version"]) == ("tasc-drafter", "1")
    assert json.loads(metadata["metadata"]) == METADATA


@pytest.mark.parametrize(
    ("arrays", "metadata", "reason"),
    [
        ({"a": np.zeros(2)}, {}, "'a' is float64, expected one of int64"),
        ({"a": np.zeros(2, ">i4")}, {}, "'a' is >i4"),
        ({"a": np.array([object()])}, {}, "'a' is object"),
        ({"__metadata__": np.zeros(2, np.int32)}, {}, "array name '__metadata__'"),
        ({"a": np.zeros((1,) * 5, np.int32)}, {}, "5 dimensions, at most 4"),
        ({}, {"a": float("nan")}, "not JSON compliant"),
        ({}, {"a": {1, 2}}, "set is not JSON serializable"),
        ({}, {"a": {1: 2, "1": 3}}, "repeated key"),
        ({}, {"a": "x" * (1 << 20)}, "its header has .* bytes, at most 1048576"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, arrays, metadata, reason):
    with pytest.raises(DrafterFileError, match=f"cannot be written: .*{reason}.*; change what is stored"):
        write_file(tmp_path / "a", arrays, metadata)
    assert not list(tmp_path.iterdir())


def test_every_flipped_bit_is_found(path):
    raw = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for position, byte in enumerate(raw):
            for bit in range(8):
                file.seek(position)
                file.write(bytes([byte ^ (1 << bit)]))
                with pytest.raises(DrafterFileError):
                    read_file(path)
            file.seek(position)
            file.write(bytes([byte]))
    assert path.read_bytes() == raw


def test_every_truncation_and_every_appended_byte_is_found(path):
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        refused(path)
    path.write_bytes(raw + b"\0")
    refused(path, "bytes of data, expected")


def test_random_damage_is_found(path):
    raw, randomness = path.read_bytes(), random.Random(0)
    for _ in range(500):
        start, stop = sorted(randomness.sample(range(len(raw) + 1), 2))
        part = randomness.randbytes(randomness.choice([0, 1, stop - start, 2 * (stop - start)]))
        damaged = raw[:start] + part + raw[stop:]
        if damaged != raw:
            path.write_bytes(damaged)
            refused(path)


def test_damage_in_a_large_file_is_found_by_verify(path, monkeypatch):
    monkeypatch.setattr(module, "ALWAYS_VERIFIED_BYTES", 16)
    read_file(path, verify=True)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert read_file(path)[1]["kinds"].tolist() == [1, 2, 2]
    refused(path, "the checksum of array 'kinds' is", verify=True)


def sealed(path, text, data):
    """Write a file with a header made by hand whose checksum is right, as somebody hostile would."""
    text = re.sub(rb'("header_crc32": )"[0-9a-f]*"', rb'\1"00000000"', text)
    header = len(text).to_bytes(8, "little") + text
    header = header.replace(b'"00000000"', b'"%08x"' % zlib.crc32(header))
    path.write_bytes(header + data)


def split(path):
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return raw[8 : 8 + length], raw[8 + length :]


def test_sealing_again_changes_nothing(path):
    """So the refusals below are not due to the checksum."""
    sealed(path, *split(path))
    check_equal(read_file(path)[1], ARRAYS)
    text, data = split(path)
    sealed(path, json.dumps(json.loads(text)).encode().ljust(len(text)), data)
    check_equal(read_file(path)[1], ARRAYS)


def meta(**changes):
    return lambda header: header["__metadata__"].update(changes)


def entry(name, **changes):
    return lambda header: header[name].update(changes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (meta(format="tasc-corpus"), "not a drafter file: its format is 'tasc-corpus', expected 'tasc-drafter'"),
        (meta(version="2"), "version '2' of the drafter file, expected '1'"),
        (meta(version=1), "version 1 of"),
        (meta(package=3), "'package' in its metadata is no string"),
        (meta(metadata={}), "'metadata' in its metadata is no string"),
        (meta(metadata="[1]"), "'metadata' in its metadata is no JSON object: '\\[1\\]'"),
        (meta(metadata='{"a": NaN}'), "no JSON object"),
        (meta(metadata='{"a": 1e999}'), "no JSON object"),
        (meta(metadata='{"a": 1, "a": 2}'), "no JSON object"),
        (meta(metadata='{"a": ' * 100_000), "no JSON object"),
        (meta(metadata='{"a": %s}' % ("9" * 10_000)), "no JSON object"),
        (meta(metadata="\ud800"), "no JSON object"),
        (meta(crc32="{}"), r"checksums of \[\], arrays"),
        (lambda h: h.pop("__metadata__"), "not a drafter file"),
        (lambda h: h["__metadata__"].pop("header_crc32"), "0 checksums in its header"),
        (lambda h: h["__metadata__"].pop("crc32"), "'crc32' in its metadata is no JSON object"),
        (lambda h: h.update(__metadata__=[]), "metadata are no JSON object"),
        (lambda h: h.update(more={"header_crc32": "00000000"}), "2 checksums"),
        (lambda h: h.pop("tokens"), "begins at byte"),
        (lambda h: h.pop("kinds"), "bytes of data, expected"),
        (lambda h: h.update(more=h["tokens"]), "begins at byte"),
        (lambda h: h.update(tokens=7), "no array 'tokens'"),
        (entry("tokens", dtype="F64"), "'tokens' does not fit"),
        (entry("tokens", dtype=[1]), "no array 'tokens'"),
        (entry("tokens", shape=[6]), "'tokens' does not fit"),
        (entry("tokens", shape=[-7]), "'tokens' does not fit"),
        (entry("tokens", shape=[-7, -1]), "'tokens' does not fit"),
        (entry("tokens", shape=[7.0]), "no array 'tokens'"),
        (entry("tokens", shape=[True] * 7), "no array 'tokens'"),
        (entry("tokens", shape=[7, 1, 1, 1, 1]), "'tokens' does not fit"),
        (entry("tokens", data_offsets=[-4, 24]), "'tokens' does not fit"),
        (entry("tokens", data_offsets=[52, 24]), "'tokens' does not fit"),
        (entry("tokens", data_offsets=[10**30, 10**30 + 28]), "'tokens' does not fit"),
        (entry("tokens", shape=[10**30], data_offsets=[24, 24 + 4 * 10**30]), "'tokens' does not fit"),
        (entry("empty", shape=[0, 10**30]), "'empty' does not fit"),
        (entry("empty", shape=[2**62, 0, 2**62]), "'empty' does not fit"),
        (entry("tokens", data_offsets=[28, 56]), "begins at byte 28"),
    ],
)
def test_a_hostile_header_with_a_right_checksum_is_refused(path, change, reason):
    text, data = split(path)
    header = json.loads(text)
    change(header)
    text = json.dumps(header).encode()
    sealed(path, text.ljust(len(text) + -(8 + len(text)) % 64), data)
    refused(path, reason)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"\xff\xfe{}",
        '{"ä": 1}'.encode("utf-16"),
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b'{"a": NaN}',
        b'{"a": 1, "a": 1}',
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
)
def test_headers_that_are_no_json_object_are_refused(path, text):
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    refused(path, "no safetensors header|its header is no JSON object")


def test_arrays_that_are_not_aligned_are_refused(path):
    text, data = split(path)
    sealed(path, text + b" ", data)
    refused(path, "is not aligned")


HOSTILE = st.integers(-(2**70), 2**70) | st.integers(-8, 80) | JSON


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_header_is_refused_or_gives_arrays_inside_the_file(tmp_path_factory, data):
    """Headers with a right checksum, one or two values replaced by anything: what is loaded can be read in full."""
    path = tmp_path_factory.mktemp("drafter") / "task.tasc"
    write_file(path, ARRAYS, METADATA)
    text, content = split(path)
    header = json.loads(text)
    for _ in range(data.draw(st.integers(1, 2))):
        place = header[data.draw(st.sampled_from(sorted(header)))]
        key = data.draw(st.sampled_from(sorted(place)))
        if isinstance(place[key], list) and place[key] and data.draw(st.booleans()):
            place[key][data.draw(st.integers(0, len(place[key]) - 1))] = data.draw(HOSTILE)
        else:
            place[key] = data.draw(HOSTILE | st.lists(HOSTILE, max_size=4))
    sealed(path, json.dumps(header).encode().ljust(len(text)), content)
    try:
        _, arrays = read_file(path, verify=data.draw(st.booleans()))
    except DrafterFileError:
        return
    assert sum(array.nbytes for array in arrays.values()) == len(content)
    assert all(array.tobytes() for array in arrays.values() if array.size)


def test_what_is_no_regular_file_is_refused(tmp_path):
    refused(tmp_path, "not a regular file")
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such devices here")
def test_endless_devices_are_refused():
    refused("/dev/zero", "not a regular file")


READER = """
import sys
from tasc.draft.file import read_file

metadata, arrays = read_file(sys.argv[1])
print(int(arrays["tokens"].max()), flush=True)  # touches every page
sys.stdin.readline()  # until the other process has done so too
fields, inside = {}, False
for line in open("/proc/self/smaps"):
    key, *rest = line.split()
    if not key.endswith(":"):
        inside = line.rstrip().endswith(sys.argv[1])
    elif inside and rest[-1] == "kB":
        fields[key[:-1]] = fields.get(key[:-1], 0) + int(rest[0])
print(fields["Rss"], fields["Pss"], fields["Private_Dirty"], flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's account of shared memory")
def test_processes_share_the_memory_of_a_large_file(tmp_path):
    n_tokens = 100_000_000
    path = tmp_path / "large.tasc"
    write_file(path, {"tokens": np.arange(n_tokens, dtype=np.int32)}, {})
    command = [sys.executable, "-c", READER, str(path)]
    readers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(2)
    ]
    try:
        assert [int(reader.stdout.readline()) for reader in readers] == [n_tokens - 1] * 2
        for reader in readers:
            reader.stdin.write("\n")
        accounts = [[int(field) for field in reader.stdout.readline().split()] for reader in readers]
    finally:
        for reader in readers:
            reader.communicate("\n")
    assert [reader.returncode for reader in readers] == [0, 0]
    mapped_kib = 4 * n_tokens / 1024
    for resident, proportional, private_dirty in accounts:
        assert resident >= mapped_kib
        assert proportional <= 0.51 * resident  # half each: the pages are the same ones
        assert private_dirty == 0
