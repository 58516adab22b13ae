import os
import stat
import subprocess
import sys

import pytest

from tasc.errors import DataError
from tasc.files import atomic_write, lock, read_json, write_json


def test_the_new_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "made" / "a.txt"
    for text in ("old", "ümlaut\n"):
        with atomic_write(path) as file:
            file.write(text)
    assert path.read_bytes() == "ümlaut\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def interrupted():
        with atomic_write(path, "wb") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_flush_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as file:
        file.write("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    ordinary, ours = tmp_path / "ordinary", tmp_path / "ours"
    ordinary.write_text("")
    write_json(ours, {})
    assert stat.S_IMODE(ours.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    ours.chmod(0o640)
    write_json(ours, {})
    assert stat.S_IMODE(ours.stat().st_mode) == 0o640


def test_json_round_trip(tmp_path):
    value = {"text": "東京", "numbers": [1, 2.5, None], "nested": {"yes": True}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "東京" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert read_json(path) == 1


@pytest.mark.parametrize(
    ("content", "reason"), [(b"{", "broken JSON"), (b'"\xff"', "not UTF-8"), (b"[" * 10**6, "broken JSON")]
)
def test_damaged_json_names_the_file(tmp_path, content, reason):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"bad.json: {reason}"):
        read_json(path)


def test_a_lock_is_held_until_the_file_is_closed(tmp_path):
    path = tmp_path / "a.lock"
    with path.open("a") as file, path.open("a") as other:
        assert lock(file.fileno())
        assert not lock(other.fileno(), wait=False)
        file.close()
        assert lock(other.fileno(), wait=False)


def test_a_killed_process_leaves_no_lock_and_a_folder_can_be_locked(tmp_path):
    code = "import os, sys; from tasc.files import lock; print(lock(os.open(sys.argv[1], os.O_RDONLY)), flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    folder = os.open(tmp_path, os.O_RDONLY)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        assert not lock(folder, wait=False)
        process.kill()
    assert lock(folder, wait=False)
    os.close(folder)


def test_without_locks_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with (tmp_path / "a").open("a") as file, (tmp_path / "a").open("a") as other:
        assert lock(file.fileno()) is None
        assert lock(other.fileno(), wait=False) is None
