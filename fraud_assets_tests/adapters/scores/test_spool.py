"""The spool: what was appended is there after any end of the process; what is damaged is left out and told."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

from fraud_assets.adapters.scores import spool as module
from fraud_assets.adapters.scores.spool import Spool, SpoolFullError, spooled_bytes
from fraud_assets.core.errors import NO_SPACE


def lines_of(spool):
    """All that the spool has, in order, and how many lines were damaged."""
    found, damaged = [], 0
    while (piece := spool.next_piece()) is not None:
        found += piece.lines
        damaged += piece.n_damaged
        spool.sent(piece)
    return found, damaged


def files(folder):
    return sorted(folder.glob("*.spool"))


def left_behind(folder, lines):
    """What a process has appended that was killed since: its file, which nobody holds."""
    program = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from fraud_assets.adapters.scores.spool import Spool
        spool = Spool(Path(sys.argv[1]), 2**20)
        for line in sys.argv[2:]:
            spool.append([line.encode()])
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    before = set(files(folder)) if folder.exists() else set()
    done = subprocess.run([sys.executable, "-c", program, str(folder), *lines], check=False)
    assert done.returncode == -9
    (path,) = set(files(folder)) - before
    return path


def test_lines_come_in_their_order_and_once(tmp_path):
    spool = Spool(tmp_path / "scores", 2**20)
    spool.append([b"one", b"two"])
    spool.append(["Ü \u2028 drei".encode()])
    assert spool.size > 0
    assert lines_of(spool) == ([b"one", b"two", "Ü \u2028 drei".encode()], 0)
    assert spool.size == 0
    assert spooled_bytes(tmp_path / "scores") == 0
    spool.append([b"four"])
    assert lines_of(spool) == ([b"four"], 0)
    spool.close()
    assert files(tmp_path / "scores") == []


def test_what_is_not_sent_is_there_for_the_next(tmp_path):
    spool = Spool(tmp_path, 2**20)
    spool.append([b"one"])
    spool.close()
    other = Spool(tmp_path, 2**20)
    assert other.take_over() == 1
    assert lines_of(other) == ([b"one"], 0)
    assert files(tmp_path) == []


def test_what_a_killed_process_appended_is_taken_over_and_that_of_a_living_one_is_not(tmp_path):
    left_behind(tmp_path, ["one", "two"])
    living = Spool(tmp_path, 2**20)
    living.append([b"mine"])
    other = Spool(tmp_path, 2**20)
    assert other.take_over() == 1
    assert other.next_piece().is_inherited
    assert lines_of(other) == ([b"one", b"two"], 0)
    assert other.take_over() == 0
    assert lines_of(living) == ([b"mine"], 0)


@pytest.mark.parametrize("cut", [1, 4, 9, 12, 13])
def test_a_last_line_that_was_torn_off_is_left_out_and_counted(tmp_path, cut):
    path = left_behind(tmp_path, ["first", "last"])
    whole = path.read_bytes()
    # 9 characters of checksum and blank, the word, and the end of the line.
    assert len(whole) == 9 + 5 + 1 + 9 + 4 + 1
    path.write_bytes(whole[: 15 + cut])
    spool = Spool(tmp_path, 2**20)
    spool.take_over()
    assert lines_of(spool) == ([b"first"], 1)
    assert files(tmp_path) == []


def test_a_line_that_was_changed_is_left_out_and_the_others_are_there(tmp_path):
    path = left_behind(tmp_path, ["first", "second", "third"])
    path.write_bytes(path.read_bytes().replace(b"second", b"secold") + b"\n\n")
    spool = Spool(tmp_path, 2**20)
    spool.take_over()
    assert lines_of(spool) == ([b"first", b"third"], 3)


def test_a_file_of_anything_is_left_out_and_keeps_nobody_from_working(tmp_path):
    (tmp_path / "x.spool").write_bytes(os.urandom(5000))
    (tmp_path / "y.spool").write_bytes(b"")
    spool = Spool(tmp_path, 2**20)
    assert spool.take_over() == 2
    found, damaged = lines_of(spool)
    assert found == []
    assert damaged >= 1
    assert files(tmp_path) == []


def test_a_line_longer_than_a_piece_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE_BYTES", 16)
    spool = Spool(tmp_path, 2**20)
    spool.append([b"x" * 100, b"short"])
    assert lines_of(spool) == ([b"x" * 100, b"short"], 0)


def test_a_full_spool_takes_nothing_more_and_what_is_in_it_stays(tmp_path):
    spool = Spool(tmp_path, 200)
    spool.append([b"x" * 100])
    with pytest.raises(SpoolFullError, match="200 bytes"):
        spool.append([b"y" * 50, b"z" * 50])
    spool.append([b"y" * 50])
    assert lines_of(spool) == ([b"x" * 100, b"y" * 50], 0)
    spool.append([b"z" * 150])
    assert lines_of(spool) == ([b"z" * 150], 0)


def test_what_others_have_in_the_folder_counts_for_the_limit(tmp_path):
    left_behind(tmp_path, ["x" * 100])
    spool = Spool(tmp_path, 150)
    with pytest.raises(SpoolFullError):
        spool.append([b"y" * 100])


def test_files_follow_each_other_and_go_when_they_are_sent(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FILE_BYTES", 100)
    spool = Spool(tmp_path, 2**20)
    for number in range(10):
        spool.append([b"%d" % number * 60])
    assert len(files(tmp_path)) == 5
    piece = spool.next_piece()
    spool.sent(piece)
    assert len(files(tmp_path)) == 4
    assert [line[:1] for line in lines_of(spool)[0]] == [b"%d" % number for number in range(2, 10)]


def test_a_disk_that_takes_a_part_of_a_line_has_none_of_it_afterwards(tmp_path):
    """By the limit that the operating system sets to a process's files: nobody here may mount a small disk."""
    program = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from fraud_assets.adapters.scores.spool import Spool
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        spool = Spool(Path(sys.argv[1]), 2**20)
        spool.append([b"x" * 50])
        try:
            spool.append([b"y" * 90])
        except OSError as error:
            print(error.strerror, spool.size)
        spool.append([b"z" * 10])
        print([piece.lines for piece in [spool.next_piece()]])
    """)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "File too large 60"
    assert second == str([(b"x" * 50, b"z" * 10)])
    assert NO_SPACE not in done.stderr


def test_the_folder_is_for_its_owner_alone(tmp_path):
    spool = Spool(tmp_path / "scores", 2**20)
    spool.append([b"one"])
    assert (tmp_path / "scores").stat().st_mode & 0o077 == 0
    assert files(tmp_path / "scores")[0].stat().st_mode & 0o077 == 0


def test_what_was_appended_is_synced_once_in_a_while(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(module, "_sync", lambda handle: synced.append(time.monotonic()))
    monkeypatch.setattr(module, "SYNC_SECONDS", 0.05)
    spool = Spool(tmp_path, 2**20)
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        spool.append([b"one"])
        time.sleep(0.002)
    assert 3 <= len(synced) <= 7
