"""The journal's promises: what is synced is read again, what was never promised is cut off, all else is an error."""

import errno
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from analytics_store import journal as journal_module
from analytics_store.errors import FullError, UnavailableError
from analytics_store.journal import Batch, Frame, Journal
from tests.support.store import read_log, start_logging
from traffic_analytics.errors import DamagedFile


def batch(number: int, size: int = 10) -> Batch:
    return Batch(float(number), "analytics_events", [b"%d" % number, b"\xffTAJ\n" * size])


def written(data_dir: Path, count: int, size: int = 10) -> list[Frame]:
    """Write frames as one process, and end without a release."""
    journal = Journal(data_dir)
    assert list(journal.open(0)) == []
    return [journal.append([batch(number, size)]) for number in range(count)]


def reopened(data_dir: Path, position: int = 0) -> tuple[Journal, list[Frame]]:
    journal = Journal(data_dir)
    return journal, list(journal.open(position))


def files(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "journal").iterdir())


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "FILE_BYTES", 100)


@pytest.mark.parametrize("read_before", range(6))
def test_frames_behind_the_position_are_read_again_in_order(tmp_path: Path, read_before: int) -> None:
    frames = written(tmp_path, 5)
    position = frames[read_before - 1].end if read_before else 0
    journal, found = reopened(tmp_path, position)
    assert found == frames[read_before:]
    assert journal.end == frames[-1].end
    assert [journal.read(frame.start, frame.end) for frame in found] == [frame.batches for frame in found]


def test_several_processes_add_to_one_sequence_of_positions(tmp_path: Path) -> None:
    frames = written(tmp_path, 2)
    for number in range(3):
        journal, found = reopened(tmp_path)
        assert found == frames
        frames.append(journal.append([batch(number)]))
    assert reopened(tmp_path)[1] == frames
    assert all(before.end == after.start for before, after in pairwise(frames))


def test_a_new_journal_goes_on_at_the_position_of_the_tables(tmp_path: Path) -> None:
    journal, found = reopened(tmp_path, 5_000)
    assert (found, journal.end, journal.append([batch(0)]).start) == ([], 5_000, 5_000)


def test_files_are_begun_when_large_and_deleted_when_all_of_their_frames_are_released(
    tmp_path: Path, small_files: None
) -> None:
    journal, _ = reopened(tmp_path)
    frames = [journal.append([batch(number)]) for number in range(6)]
    assert len(files(tmp_path)) == 3
    for released, left in ((0, 3), (1, 2), (2, 2), (5, 0)):
        journal.release(frames[released].end)
        assert len(files(tmp_path)) == left, released
    assert (journal.waiting_bytes, journal.append([batch(6)]).start) == (0, frames[-1].end)
    journal.release(journal.end)
    assert len(files(tmp_path)) == 1
    journal.release(journal.end, current=True)
    assert files(tmp_path) == []


@pytest.mark.parametrize("kept", range(1, 60, 7))
@pytest.mark.parametrize("tail", [b"", bytes(20), b"\xffTAJ" * 20], ids=["none", "zeros", "marks"])
def test_an_unfinished_append_is_cut_off_and_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: int, tail: bytes
) -> None:
    start_logging()
    frames = written(tmp_path, 3)
    (file,) = files(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: frames[1].end + kept] + tail)
    journal, found = reopened(tmp_path)
    assert found == frames[:2]
    (record,) = read_log(capsys)
    assert (record["event"], record["position"], record["bytes"]) == ("JournalTailCut", frames[1].end, kept + len(tail))
    frames[2:] = [journal.append([batch(7)])]
    assert reopened(tmp_path)[1] == frames
    assert read_log(capsys) == []


@pytest.mark.parametrize("place", range(0, 60, 6))
@pytest.mark.parametrize("frame", [0, 1])
def test_damage_before_the_last_frame_names_file_position_and_remedy(tmp_path: Path, place: int, frame: int) -> None:
    frames = written(tmp_path, 3)
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    content[frames[frame].start + place] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedFile, match=rf"journal/{file.name} .* at byte {frames[frame].start}: .* move it out"):
        reopened(tmp_path)
    assert file.read_bytes() == content
    # Rows that are in the tables already are not read.
    assert reopened(tmp_path, frames[frame].end)[1] == frames[frame + 1 :]


def test_a_file_without_its_end_is_damage_if_another_follows(tmp_path: Path, small_files: None) -> None:
    written(tmp_path, 6)
    file = files(tmp_path)[1]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match=file.name):
        reopened(tmp_path)


def test_a_file_that_was_moved_away_is_logged_and_the_other_rows_are_read(
    tmp_path: Path, small_files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging()
    frames = written(tmp_path, 6)
    files(tmp_path)[0].unlink()
    assert reopened(tmp_path)[1] == frames[2:]
    (record,) = read_log(capsys)
    assert (record["event"], record["first"], record["last"]) == ("JournalGap", 0, frames[2].start)
    files(tmp_path)[0].unlink()
    assert reopened(tmp_path, frames[1].end)[1] == frames[4:]


def fail_once(monkeypatch: pytest.MonkeyPatch, name: str, instead: Callable[[int, bytes], int] | None = None) -> None:
    real = getattr(os, name)

    def fails(*arguments: object) -> int:
        monkeypatch.setattr(os, name, real)
        if instead is not None:
            instead(*arguments)  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, name, fails)


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize(("function", "written_bytes"), [("write", 0), ("write", 30), ("fdatasync", 0)])
def test_an_append_that_fails_promises_nothing_and_the_next_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, function: str, written_bytes: int
) -> None:
    journal, _ = reopened(tmp_path)
    frames = [journal.append([batch(number)]) for number in range(before)]
    write = os.write
    fail_once(monkeypatch, function, (lambda file, data: write(file, data[:written_bytes])) if written_bytes else None)
    with pytest.raises(FullError, match=r"the disk of .*journal is full"):
        journal.append([batch(8)])
    frames.append(journal.append([batch(9)]))
    assert frames[-1].start == (frames[-2].end if before else 0)
    assert reopened(tmp_path)[1] == frames


def test_a_full_journal_refuses_until_frames_are_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "LIMIT", 1_000)
    journal, _ = reopened(tmp_path)
    first = journal.append([batch(0, 300)])
    with pytest.raises(UnavailableError, match="journal is full"):
        journal.append([batch(1)])
    journal.release(first.end)
    journal.append([batch(1)])


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_only_the_owner_may_read_the_journal(tmp_path: Path, mode: int) -> None:
    written(tmp_path, 1)
    for path in (tmp_path / "journal", *files(tmp_path)):
        path.chmod(mode)
    reopened(tmp_path)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "journal", *files(tmp_path))] == [0o700, mode & 0o700]
