import gzip
import json
import re

import pyarrow
import pyarrow.parquet
import pytest

from tasc.corpus import Row, Tasks, load_held_out, load_tasks, shared_rows
from tasc.corpus import _readers as readers
from tasc.errors import DataError, OptionError

GOOD: dict[str, str] = {"prompt": "wake me", "completion": "intent: alarm_set"}
ROW = Row("wake me", "intent: alarm_set")
LINE = json.dumps(GOOD)


def write_lines(path, *lines):
    content = b"".join(line.encode() + b"\n" if isinstance(line, str) else line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_table(path, rows):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson", "a.json", "A.JSONL"])
def test_jsonl(tmp_path, name):
    path = write_lines(tmp_path / name, LINE, "", json.dumps({"prompt": "", "completion": "é\n", "other": 1}), "   ")
    tasks = load_tasks(path)
    assert tasks.rows == (Row("wake me", "intent: alarm_set"), Row("", "é\n"))
    assert (len(tasks), tasks.source, tasks.n_skipped) == (2, str(path), 0)
    assert tasks.prompts == ["wake me", ""]
    assert tasks.completions == ["intent: alarm_set", "é\n"]


def test_a_byte_order_mark_is_no_error(tmp_path):
    assert load_tasks(write_lines(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + LINE.encode()))[0].prompt == "wake me"


@pytest.mark.parametrize("compressed", [False, True])
def test_csv_with_quotes_and_line_breaks_in_cells(tmp_path, compressed):
    path = tmp_path / ("a.csv.gz" if compressed else "a.csv")
    content = 'prompt,completion,x\r\n"say ""hi"", now","two\nlines",1\r\n,ok,2\r\n'.encode("utf-8-sig")
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert load_tasks(path).rows == (Row('say "hi", now', "two\nlines"), Row("", "ok"))


def test_parquet(tmp_path):
    path = write_table(tmp_path / "a.parquet", [GOOD, {"prompt": "q", "completion": "a"}])
    assert load_tasks(path).rows == (ROW, Row("q", "a"))


def test_columns_can_be_chosen(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", json.dumps({"q": "1", "a": "2", "prompt": "3"}))
    assert load_tasks(path, prompt_column="q", completion_column="a").rows == (Row("1", "2"),)


def test_limit_counts_usable_rows(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", LINE, "{", LINE, LINE, "not reached {")
    tasks = load_tasks(path, limit=3, skip_bad=True)
    assert (len(tasks), tasks.n_skipped) == (3, 1)
    with pytest.raises(OptionError, match="limit must be at least 1, got 0"):
        load_tasks(path, limit=0)


# chats


def turn(role, content):
    return {"role": role, "content": content}


def test_the_last_assistant_turn_of_a_chat_is_the_completion(tmp_path):
    turns = [
        turn("system", "s"),
        turn("user", "u1"),
        turn("assistant", "a1"),
        turn("user", "u2"),
        turn("assistant", "a2"),
    ]
    path = write_lines(tmp_path / "a.jsonl", json.dumps({"messages": [*turns, turn("user", "u3")]}))
    (row,) = load_tasks(path)
    assert row == Row("u2", "a2", tuple(turns[:4]))


def test_a_chat_column_can_be_chosen_and_a_completion_column_goes_first(tmp_path):
    chat = [turn("user", "u"), turn("assistant", "a")]
    path = write_lines(tmp_path / "a.jsonl", json.dumps({"talk": chat}), json.dumps(GOOD | {"talk": chat}))
    rows = load_tasks(path, messages_column="talk").rows
    assert rows == (Row("u", "a", (turn("user", "u"),)), ROW)


def test_rows_to_answer_need_no_completion(tmp_path):
    chat = [turn("user", "u1"), turn("assistant", "a1"), turn("user", "u2")]
    rows = [{"prompt": "p"}, {"prompt": "p", "completion": None}, GOOD, {"messages": chat}, {"messages": chat[:2]}]
    path = write_lines(tmp_path / "a.jsonl", *map(json.dumps, rows))
    assert load_tasks(path, references=False).rows == (
        Row("p", ""), Row("p", ""), ROW, Row("u2", "", tuple(chat)), Row("u1", "a1", tuple(chat[:1])),
    )  # fmt: skip
    with pytest.raises(DataError, match="no column 'completion'"):
        load_tasks(path)
    answered = write_lines(tmp_path / "b.jsonl", json.dumps({"messages": chat}))
    assert load_tasks(answered).rows == (Row("u1", "a1", tuple(chat[:1])),)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("hello", "'messages' is str, expected a list of turns"),
        ([], "'messages' has no assistant turn"),
        ([turn("user", "u")], "'messages' has no assistant turn"),
        ([turn("user", "u"), turn("assistant", " ")], "empty completion"),
        ([turn("user", None), turn("assistant", "a")], "'content' of turn 1 of 'messages' is null, expected text"),
        ([turn("user", "u"), turn("assistant", "a") | {"tool_calls": [{}]}], "turn 2 of 'messages' has 'tool_calls'"),
        ([{"from": "human"}], "turn 1 of 'messages' is not an object with 'role' and 'content'"),
    ],
)
def test_bad_chats(tmp_path, messages, reason):
    path = write_lines(tmp_path / "a.jsonl", json.dumps({"messages": messages}))
    with pytest.raises(DataError, match=re.escape(f"{path}:1: {reason}")):
        load_tasks(path)


# bad rows: file, line, reason


BAD_LINES = {
    "broken": ('{"prompt": "a", "comp', "broken JSON (Unterminated string starting at, character 17)"),
    "deep": ("[" * 100_000, "broken JSON (maximum recursion depth exceeded"),
    "huge number": ('{"prompt": "a", "completion": ' + "9" * 5000 + "}", "broken JSON (Exceeds the limit"),
    "list": ('["a", "b"]', "expected a JSON object, found list"),
    "column": ('{"x": 1, "prompt": "a"}', "no column 'completion'; found: x, prompt"),
    "prompt": ('{"x": 1}', "no column 'prompt'; found: x"),
    "many columns": (json.dumps({str(i): i for i in range(20)}), "found: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ..."),
    "empty": ('{"prompt": "a", "completion": ""}', "empty completion (column 'completion')"),
    "blank": ('{"prompt": "a", "completion": " \\n"}', "empty completion"),
    "null": ('{"prompt": null, "completion": "b"}', "'prompt' is null, expected text"),
    "number": ('{"prompt": "a", "completion": 3.5}', "'completion' is a number, expected text"),
    "object": ('{"prompt": "a", "completion": {}}', "'completion' is an object, expected text"),
    "surrogate": ('{"prompt": "x\\ud800", "completion": "b"}', "'prompt' is not valid Unicode text (character 2)"),
    "bytes": (b'{"prompt": "\xff", "completion": "b"}', "not UTF-8 (byte 0xff at position 13)"),
}


@pytest.mark.parametrize("case", BAD_LINES)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_bad_line_is_named_or_skipped(tmp_path, name, case):
    line, reason = BAD_LINES[case]
    path = write_lines(tmp_path / name, LINE, "", line, LINE)
    with pytest.raises(DataError) as caught:
        load_tasks(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:3: ")
    assert reason in message
    assert message.endswith("; fix the line or pass --skip-bad")
    assert "\n" not in message
    tasks = load_tasks(path, skip_bad=True)
    assert (len(tasks), tasks.n_skipped, len(tasks.skipped)) == (2, 1, 1)
    assert reason in tasks.skipped[0]


@pytest.mark.parametrize("last", [False, True])
def test_a_line_above_10_mb_is_refused_without_being_read_whole(tmp_path, last):
    long = json.dumps({"prompt": "a" * readers.MAX_LINE_BYTES, "completion": "b"})
    path = write_lines(tmp_path / "a.jsonl", LINE, long + "x" * (2 * readers.MAX_LINE_BYTES), *([] if last else [LINE]))
    with pytest.raises(DataError, match=re.escape(f"{path}:2: line above 10 MB; fix the line")):
        load_tasks(path)
    tasks = load_tasks(path, skip_bad=True)
    assert (len(tasks), tasks.n_skipped) == (1 if last else 2, 1)


def test_only_the_first_reasons_are_kept(tmp_path):
    tasks = load_tasks(write_lines(tmp_path / "a.jsonl", LINE, *["{"] * 50), skip_bad=True)
    assert (tasks.n_skipped, len(tasks.skipped)) == (50, 20)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"prompt,completion\na,\n", "a.csv:2: empty completion"),
        (b"prompt,completion\na\n", "a.csv:2: no column 'completion'; found: prompt"),
        (b"prompt,completion\na,b,c\n", "a.csv:2: more cells than the header has columns"),
        (b"prompt,completion\na,\xff\n", "a.csv:2: 'completion' is not valid Unicode text"),
        (b'prompt,completion\na,"b"c\n', "a.csv:2: broken CSV"),
    ],
)
def test_bad_csv(tmp_path, content, reason):
    path = tmp_path / "a.csv"
    path.write_bytes(content + b"good,row\n")
    with pytest.raises(DataError, match=re.escape(reason)):
        load_tasks(path)
    if b";" not in content:
        assert load_tasks(path, skip_bad=True).n_skipped == 1


def test_bad_parquet(tmp_path):
    path = write_table(tmp_path / "a.parquet", [GOOD, GOOD | {"completion": None}])
    with pytest.raises(DataError, match=r"a\.parquet: row 2: 'completion' is null, expected text"):
        load_tasks(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"a\.parquet: damaged Parquet file"):
        load_tasks(path)


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_csv_with_other_separators(tmp_path, separator, name):
    path = write_lines(tmp_path / "a.csv", f"prompt{separator}completion", f"a{separator}b")
    with pytest.raises(DataError, match=rf"a\.csv:1: its columns are parted by {name} .* expected commas"):
        load_tasks(path, skip_bad=True)


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n\n  "])
@pytest.mark.parametrize("compressed", [False, True])
def test_an_array_of_rows(tmp_path, before, compressed):
    path = tmp_path / ("a.json.gz" if compressed else "a.json")
    content = (
        before
        + json.dumps([{"prompt": "a", "completion": "b\n"}, {"prompt": "c", "completion": "d"}], indent=2).encode()
    )
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert load_tasks(path).rows == (Row("a", "b\n"), Row("c", "d"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'[{"prompt": "a", "completion": "b"},\n 7]', "a.json: row 2: expected a JSON object, found int"),
        (b'[{"prompt": "a", "completion": ""}]', "a.json: row 1: empty completion"),
        (
            b'[{"prompt": "a",\n "completion": "b"}',
            r"a.json:2: broken JSON array \(Expecting ',' delimiter, character 20\)",
        ),
        (b'[{"prompt": "\xff", "completion": "b"}]', r"a.json: not UTF-8 \(byte 14\)"),
        (b"[" * 100_000, "a.json: broken JSON array"),
        (b"[]", "a.json: empty, no rows"),
    ],
)
def test_a_bad_array(tmp_path, content, reason):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        load_tasks(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv"])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_an_empty_file_is_called_empty(tmp_path, name, skip_bad):
    path = write_lines(tmp_path / name)
    with pytest.raises(DataError, match=re.escape(f"{path}: empty, no rows")):
        load_tasks(path, skip_bad=skip_bad)


def test_a_file_without_a_usable_row_says_why(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", "{", "[]")
    with pytest.raises(DataError, match=r"none of 2 rows is usable, the first: .*a\.jsonl:1: broken JSON"):
        load_tasks(path, skip_bad=True)


@pytest.mark.parametrize("name", ["missing.jsonl", "folder/missing.jsonl.gz", "a/b/c"])
def test_a_missing_file_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=re.escape(f"{name}: no such file or folder")):
        load_tasks(name)


def test_an_unknown_format_is_refused(tmp_path):
    path = write_lines(tmp_path / "a.txt", LINE)
    with pytest.raises(DataError, match=r"a\.txt: unknown format; expected one of \.jsonl, "):
        load_tasks(path)


@pytest.mark.parametrize("damage", ["cut", "not gzip", "flipped"])
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    path = tmp_path / "a.jsonl.gz"
    content = bytearray(gzip.compress((LINE + "\n").encode() * 1000))
    if damage == "flipped":
        content[-20] ^= 0xFF
    path.write_bytes({"cut": content[:-30], "not gzip": LINE.encode(), "flipped": content}[damage])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: damaged gzip file"):
        load_tasks(path, skip_bad=True)


# folders and the Hub


def test_a_folder_of_splits(tmp_path):
    write_lines(tmp_path / "train.jsonl", LINE)
    write_lines(tmp_path / "dev.jsonl.gz", LINE, LINE)
    write_lines(tmp_path / "labels.json", "{}")
    (tmp_path / "README.md").write_text("")
    assert len(load_tasks(tmp_path)) == 1
    for split in ("validation", "dev", "val"):
        assert len(load_tasks(tmp_path, split=split)) == 2
    with pytest.raises(DataError, match=r"no file for split 'test'; .*found: README\.md, dev\.jsonl\.gz, labels\.json"):
        load_tasks(tmp_path, split="test")


def test_shards_are_read_in_order(tmp_path):
    (tmp_path / "data").mkdir()
    for number in (1, 0, 2):
        write_table(tmp_path / "data" / f"train-0000{number}-of-00003.parquet", [GOOD | {"prompt": str(number)}])
    assert load_tasks(tmp_path).prompts == ["0", "1", "2"]


@pytest.mark.parametrize("names", [["00000-of-00002"], ["00000-of-00001", "00000-of-00002", "00001-of-00002"]])
def test_shards_of_no_whole_set_are_refused(tmp_path, names):
    for name in names:
        write_lines(tmp_path / f"train-{name}.jsonl", LINE)
    with pytest.raises(DataError, match="a shard is missing or of another set"):
        load_tasks(tmp_path)


def test_held_out_rows_of_a_folder_are_its_validation_split(tmp_path):
    write_lines(tmp_path / "train.jsonl", LINE, LINE)
    write_lines(tmp_path / "dev.jsonl", LINE)
    write_lines(tmp_path / "test.jsonl", LINE, LINE, LINE)
    assert [len(load_held_out(place)) for place in (tmp_path, tmp_path / "train.jsonl")] == [1, 2]
    assert len(load_held_out(tmp_path, split="test")) == 3


def test_two_files_for_one_split_are_refused(tmp_path):
    write_lines(tmp_path / "train.jsonl", LINE)
    write_lines(tmp_path / "train.csv", "prompt,completion")
    with pytest.raises(DataError, match=r"several files for split 'train' \(train\.csv, train\.jsonl\)"):
        load_tasks(tmp_path)


def test_a_single_file_has_no_splits(tmp_path):
    with pytest.raises(OptionError, match="is a single file and has no split 'test'"):
        load_tasks(write_lines(tmp_path / "a.jsonl", LINE), split="test")


def test_a_hub_name_goes_through_datasets(tmp_path, monkeypatch):
    import datasets

    asked = []

    def load_dataset(name, config, *, split):
        asked.append((name, config, split))
        return datasets.Dataset.from_list([GOOD, GOOD | {"prompt": "q"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.chdir(tmp_path)
    assert load_tasks("owner/name:en", split="test").prompts == ["wake me", "q"]
    assert load_tasks("owner/name").source == "owner/name (train)"
    assert asked == [("owner/name", "en", "test"), ("owner/name", None, "train")]


def test_datasets_itself_loads_a_folder_as_it_loads_a_hub_name(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "rows"
    folder.mkdir()
    write_lines(folder / "train.jsonl", LINE, json.dumps({"prompt": "q", "completion": "a"}))
    place = f"{folder} (train): row"
    assert list(readers.read_hub(str(folder), "train")) == [
        readers.Record(f"{place} 1", GOOD),
        readers.Record(f"{place} 2", {"prompt": "q", "completion": "a"}),
    ]


def test_an_unknown_hub_name_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"^nobody/nothing: no such file, and split 'train' could not be loaded"
    ) as caught:
        load_tasks("nobody/nothing")
    assert "\n" not in str(caught.value)


# rows


def test_shared_rows_are_distinct_rows_in_both():
    a = Tasks((Row("p", "x"), Row("q", "y"), Row("u", "c", (turn("user", "u"),))))
    b = Tasks((Row("p", "x"), Row("p", "x"), Row("p", "y"), Row("u", "c", (turn("user", "u"),)), Row("u", "c")))
    assert shared_rows(a, b) == 2
    assert shared_rows(b, a) == 2
    assert shared_rows(a, Tasks(())) == 0


def test_tasks_are_a_sequence():
    tasks = Tasks(tuple(Row(str(i), "x") for i in range(5)), "here")
    assert tasks[1] == Row("1", "x")
    assert tasks[-1].prompt == "4"
    part = tasks[1:3]
    assert isinstance(part, Tasks)
    assert (part.prompts, part.source) == (["1", "2"], "here")
    assert [row.prompt for row in tasks] == list("01234")


def test_real_corpora(shared):
    for name, rows in (("massive_en", 2974), ("snips", 700), ("eurlex57k_short", 6000)):
        tasks = load_tasks(shared / "data" / name, split="test")
        assert len(tasks) == rows
        assert all(row.completion and isinstance(row.prompt, str) for row in tasks)
