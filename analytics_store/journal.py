"""Keep accepted rows on disk until the engine has them.

- `append` returns when its batches are synced: they survive a kill of the process and a power cut.
- A position counts all bytes ever written, so it never repeats. A file is named after the position of its first byte.
- Each append writes one frame: a mark, the length and the checksum of the content, and the content. The checksum
  covers the position too, so old bytes are never read as a frame.
- A new process writes a new file. The next file's name is the end of a file: bytes beyond it were never promised.
- A damaged frame at the end of the last file was never promised either: it is cut off, and logged. Any other damage is
  an error, which names file, position and remedy.
- `release` deletes the files whose frames the engine has.
"""

import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from analytics_store import file_modes
from analytics_store.errors import UnavailableError, explain_system
from traffic_analytics.errors import DamagedFile

_log = logging.getLogger(__name__)

DIRECTORY = "journal"
FILE_BYTES = 8 * 2**20
"""Size from which the next frame begins a new file, in bytes."""
LIMIT = 256 * 2**20
"""Most bytes that wait for the engine; more are refused."""
MARK = b"\xffTAJ"
"""Begins each frame; JSON holds no byte 0xFF."""
HEADER = struct.Struct(">4sII")


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """Lines of one data source, and the Unix time of their arrival."""

    at: float
    name: str
    lines: list[bytes]


@dataclass(frozen=True, slots=True)
class Frame:
    """The batches that one append has written, and the positions of its first byte and behind its last."""

    start: int
    end: int
    batches: list[Batch]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Batch]).decode


class Journal:
    """Own the files in the directory `journal`; one thread at a time may append, and one may release."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir / DIRECTORY
        # Guards the files: `release` may close the one that `append` writes.
        self._lock = threading.Lock()
        self._file = -1
        self._starts: list[int] = []
        self._released = 0
        self.end = 0
        """Position behind the last frame."""

    @property
    def waiting_bytes(self) -> int:
        """Return the bytes of the frames that are not released."""
        return self.end - self._released

    def open(self, position: int) -> Iterator[Frame]:
        """Read the frames behind a position, and delete the files before it. Raises DamagedFile, UnavailableError.

        The first frame may begin before the position. Nothing may be appended before the last frame is read.
        """
        self._close()
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file_modes.narrow((self._directory, *self._directory.iterdir()))
            self._starts = sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdecimal())
            self._released = self.end = position
            if self._starts and self._starts[0] > position:
                facts = {"first": position, "last": self._starts[0]}
                _log.error("the journal lacks rows: a file was removed", extra={"event": "JournalGap", **facts})
            for start, stop in zip(self._starts, [*self._starts, None][1:], strict=True):
                if stop is None or stop > position:
                    yield from self._read_file(start, stop, position)
            self.release(position)
        except OSError as error:
            raise explain_system(self._directory, error.errno or 0) from error

    def append(self, batches: list[Batch]) -> Frame:
        """Write batches as one frame; return when it is synced.

        Raises UnavailableError or FullError if the journal or the disk is full, or cannot be written. Nothing is
        promised then.
        """
        if self.waiting_bytes > LIMIT:
            raise UnavailableError("the journal is full, as rows arrive faster than they are stored; send again later")
        with self._lock:
            return self._append(batches)

    def _append(self, batches: list[Batch]) -> Frame:
        frame = _pack(batches, self.end)
        try:
            if self._file < 0 or self.end - self._starts[-1] >= FILE_BYTES:
                self._begin_file()
            written = 0
            while written < len(frame):
                written += os.write(self._file, frame[written:])
            os.fdatasync(self._file)
        except OSError as error:
            # It is unknown how much reached the disk. The next frame begins a new file, whose name ends this one.
            self._close()
            raise explain_system(self._directory, error.errno or 0) from error
        start, self.end = self.end, self.end + len(frame)
        return Frame(start, self.end, batches)

    def read(self, start: int, end: int) -> list[Batch]:
        """Read one frame again."""
        with self._lock:
            of_file = max(each for each in self._starts if each <= start)
        try:
            with self._path(of_file).open("rb") as file:
                file.seek(start - of_file)
                batches = _unpack(file.read(end - start), 0, start)
        except OSError as error:
            raise explain_system(self._directory, error.errno or 0) from error
        if batches is None:
            raise self._damage(of_file, start)
        return batches[1]

    def release(self, position: int, *, current: bool = False) -> None:
        """Delete the files before a position; the file in use stays until it is large, or `current` is set."""
        with self._lock:
            self._released = max(self._released, position)
            ends = [*self._starts, self.end][1:]
            for start, end in zip(self._starts.copy(), ends, strict=True):
                in_use = self._file >= 0 and start == self._starts[-1]
                if end <= position and (current or not in_use or end - start >= FILE_BYTES):
                    if in_use:
                        self._close()
                    with suppress(FileNotFoundError):
                        self._path(start).unlink()
                    self._starts.remove(start)

    def _begin_file(self) -> None:
        self._close()
        # A file of this name can only hold frames that were never promised.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        self._file = os.open(self._path(self.end), flags, 0o600)
        if self.end not in self._starts:
            self._starts.append(self.end)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _path(self, start: int) -> Path:
        return self._directory / f"{start:020}"

    def _read_file(self, start: int, stop: int | None, position: int) -> Iterator[Frame]:
        data = self._path(start).read_bytes()
        length = len(data) if stop is None else stop - start
        at = _start_of_frame(data, position - start, start)
        while at < length:
            read = _unpack(data, at, start + at)
            if read is None and stop is None and not _holds_frame(data, at + 1, start):
                os.truncate(self._path(start), at)
                facts = {"file": self._path(start).name, "position": at, "bytes": length - at}
                _log.warning("an unfinished append was cut off", extra={"event": "JournalTailCut", **facts})
                break
            if read is None:
                raise self._damage(start, start + at)
            end, batches = read
            self.end = start + end
            yield Frame(start + at, start + end, batches)
            at = end

    def _damage(self, start: int, position: int) -> DamagedFile:
        path = f"{DIRECTORY}/{self._path(start).name}"
        return DamagedFile(
            f"{path} in STORE_DATA_DIR is damaged at byte {position - start}: restore it from a copy, or move it out "
            "of the directory; the store then starts without the rows in it that are not in the tables yet"
        )


def _pack(batches: list[Batch], position: int) -> bytes:
    content = _encode(batches)
    return HEADER.pack(MARK, len(content), _checksum(content, position)) + content


def _unpack(data: bytes, at: int, position: int) -> tuple[int, list[Batch]] | None:
    """Return the end of a frame in the data, and its batches; None if it is damaged."""
    if len(data) - at < HEADER.size:
        return None
    mark, length, checksum = HEADER.unpack_from(data, at)
    end = at + HEADER.size + length
    content = memoryview(data)[at + HEADER.size : end]
    if mark != MARK or len(content) < length or _checksum(content, position) != checksum:
        return None
    return end, _decode(content)


def _start_of_frame(data: bytes, place: int, start: int) -> int:
    """Return the start of the frame that holds a place of a file; the place itself if it cannot be found."""
    if place >= len(data) or (place > 0 and _unpack(data, place, start + place) is not None):
        return place
    at = 0
    while at + HEADER.size <= place:
        mark, length, _ = HEADER.unpack_from(data, at)
        if mark != MARK:
            return place
        if at + HEADER.size + length > place:
            break
        at += HEADER.size + length
    return at


def _holds_frame(data: bytes, at: int, start: int) -> bool:
    while (at := data.find(MARK, at)) >= 0:
        if _unpack(data, at, start + at) is not None:
            return True
        at += 1
    return False


def _checksum(content: bytes | memoryview, position: int) -> int:
    return zlib.crc32(content, zlib.crc32(position.to_bytes(8)))
