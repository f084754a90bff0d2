"""The spool: what an engine knows of its requests, on its own machine, safe from the death of any process.

A request is written down twice: before it is sent, as `lost`, and with its fate when it has ended. Whoever merges the
spools of a run into its store (where only `lost` is ever replaced) has every request that was begun. A sample is one
`write` of one frame to a file opened for appending: no buffer of ours that a SIGKILL could take along, and no `fsync`.
The files are in memory (tmpfs) where the system has such a place, so that no write waits for a disk's journal; they
then survive the death of every process but not a reboot.

A spool is a row of segments. A segment is deleted when the master has committed everything in it. A disk that is full
ends the spool and never the run.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from latbench.model.frames import Unpacker
from latbench.model.sample import Sample

SEGMENT_BYTES = 8_000_000

_SUFFIX = ".spool"
_SHARED_MEMORY = Path("/dev/shm")
_NAME_CHARS = 80
_LENGTH = struct.Struct(">I")


class SpoolHeader(msgspec.Struct, frozen=True, tag="latbench-spool"):
    """The first frame of every segment. Only this names the worker in full; file names are made safe."""

    run_id: str
    version: str
    worker: str
    segment: int = 0


_encoder = msgspec.msgpack.Encoder()
_header: msgspec.msgpack.Decoder[SpoolHeader] = msgspec.msgpack.Decoder(SpoolHeader)
_sample: msgspec.msgpack.Decoder[Sample] = msgspec.msgpack.Decoder(Sample)


def spool_root(environ: Mapping[str, str]) -> Path:
    """Where the spools of all runs are: $LATBENCH_SPOOL, else a folder of this user's in memory, else in the temporary
    folder.
    """
    if named := environ.get("LATBENCH_SPOOL"):
        return Path(named)
    in_memory = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK | os.X_OK)
    return (_SHARED_MEMORY if in_memory else Path(tempfile.gettempdir())) / f"latbench-{os.getuid()}"


class Spool:
    """The spool of one worker in one run. `folder` is `spool_root()/<run id>`; it is made, for this user only.

    Nothing here raises: `failed` says what went wrong first, and from then on nothing more is written. `header.segment`
    is set here: numbers go on after those of an engine that was there before under the same name.
    """

    def __init__(self, folder: Path, header: SpoolHeader, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.failed: str | None = None
        self._folder = folder
        self._header = header
        self._segment_bytes = segment_bytes
        self._frame = bytearray()
        self._file = -1
        self._path = folder
        self._bytes = 0
        self._closed: list[tuple[int, Path]] = []  # (the last batch with anything of it, segment)
        self._unacknowledged: set[int] = set()
        try:
            _make_private(folder)
            before = segments(folder, header.worker)
            self._number = _number(before[-1]) if before else 0
            self._begin(())
        except OSError as fault:
            self._fail(fault)

    def add(self, sample: Sample) -> None:
        """Write down a request that is about to be sent (`lost`), or what became of it. A few microseconds."""
        if self._file < 0:
            return
        try:
            self._bytes += _write(self._file, _framed(sample, self._frame))
        except OSError as fault:
            self._fail(fault)

    def rotate(self, number: int, open_: Iterable[Sample]) -> None:
        """Batch `number` is handed over, and with it everything added so far that was not in an earlier one.

        A segment that has grown large enough ends here. The next one begins with `open_`: the provisional samples of
        the requests that have not ended.
        """
        self._unacknowledged.add(number)
        if self._file < 0 or self._bytes <= self._segment_bytes:
            return
        file, path = self._file, self._path
        try:
            self._begin(open_)
        except OSError as fault:
            self._fail(fault)
        else:
            os.close(file)
            self._closed.append((number, path))

    def acknowledged(self, number: int) -> None:
        """Batch `number` has been committed; batches may come in any order. Deletes the segments no longer needed."""
        self._unacknowledged.discard(number)
        if self._closed:
            waiting = min(self._unacknowledged, default=None)
            while self._closed and (waiting is None or self._closed[0][0] < waiting):
                _unlink(self._closed.pop(0)[1])

    @property
    def acknowledged_all(self) -> bool:
        """Whether every batch that was handed over has been committed."""
        return not self._unacknowledged

    def close(self, delete: bool) -> None:
        """Write no more. `delete` where everything has been committed: then no trace is left."""
        self._end()
        if delete:
            for path in segments(self._folder, self._header.worker):
                _unlink(path)
            _remove_empty(self._folder)

    def _begin(self, samples: Iterable[Sample]) -> None:
        """The next segment, which gets its name when its beginning is written: no segment is without its header."""
        header = msgspec.structs.replace(self._header, segment=self._number + 1)
        path = self._folder / f"{_stem(header.worker)}-{header.segment:06d}{_SUFFIX}"
        beginning = _framed(header, bytearray())
        for sample in samples:
            _framed(sample, beginning, len(beginning))
        draft = path.with_suffix(".tmp")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # says that this engine lives, see `being_written`
            self._bytes = _write(file, beginning)
            draft.rename(path)
        except OSError:
            os.close(file)
            _unlink(draft)
            raise
        self._file, self._path, self._number = file, path, header.segment

    def _fail(self, fault: OSError) -> None:
        self.failed = f"{self._path}: {fault.strerror or fault}"
        self._end()

    def _end(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def read_spool(path: Path) -> tuple[SpoolHeader, Iterator[Sample]]:
    """The header of a segment, and its samples in the order in which they were written.

    A last frame that was not written to its end (the engine was killed in the middle) is not there. Raises ValueError
    for a file that is no segment; the iterator does where one is damaged, after the samples before the damage. Raises
    OSError where the file cannot be read.
    """
    data = path.read_bytes()
    try:
        frames = Unpacker().feed(data)
        header = _header.decode(frames[0])
    except (ValueError, IndexError, msgspec.DecodeError) as fault:
        raise ValueError(f"{path}: not a spool of latbench's") from fault
    return header, _samples(path, frames[1:])


def _samples(path: Path, frames: list[bytes]) -> Iterator[Sample]:
    for index, frame in enumerate(frames):
        try:
            yield _sample.decode(frame)
        except msgspec.DecodeError as fault:
            raise ValueError(f"{path}: damaged after {index} samples ({fault})") from fault


def spools_of(root: Path, run_id: str, worker: str | None = None) -> list[Path]:
    """The segments of a run (of one worker), each worker's in the order in which they were written."""
    return segments(root / run_id, worker)


def segments(folder: Path, worker: str | None = None) -> list[Path]:
    """As `spools_of`, of one folder. None where there is no folder."""
    found = (path for path in folder.glob(f"*{_SUFFIX}") if re.search(r"-\d+$", path.stem))
    stem = None if worker is None else _stem(worker)
    return sorted(
        (path for path in found if stem is None or path.stem.rpartition("-")[0] == stem),
        key=lambda path: (path.stem.rpartition("-")[0], _number(path)),
    )


def being_written(path: Path) -> bool:
    """Whether the engine that writes this segment lives: it holds a lock, which nothing survives but the engine."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def remove_segments(paths: Iterable[Path]) -> None:
    """Delete segments of which everything has been committed, and the folder if nothing else is in it."""
    for path in paths:
        _unlink(path)
        _remove_empty(path.parent)


def remove_spools(root: Path, run_id: str) -> None:
    """Delete the spools of a run, whoever wrote them. What cannot be deleted stays."""
    shutil.rmtree(root / run_id, ignore_errors=True)


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _stem(worker: str) -> str:
    """A file name for a worker's id, whatever is in it: readable, and never the same for two ids."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", worker)[:_NAME_CHARS]
    return f"{readable}-{hashlib.blake2b(worker.encode(), digest_size=6).hexdigest()}"


def _make_private(folder: Path) -> None:
    """Make the folder and the one above it, for this user only.

    Raises OSError where the folder is somebody else's: where all may write, anybody can have made it.
    """
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "belongs to another user")


def _framed(value: Sample | SpoolHeader, into: bytearray, at: int = 0) -> bytearray:
    """`into`, which from `at` on is the value with its length in front."""
    _encoder.encode_into(value, into, at + _LENGTH.size)
    _LENGTH.pack_into(into, at, len(into) - at - _LENGTH.size)
    return into


def _write(file: int, data: bytes | bytearray) -> int:
    """All of it, or OSError. A disk that fills up takes a part first and refuses the rest."""
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, memoryview(data)[written:])
    return written


def _unlink(path: Path) -> None:
    """A segment that cannot be deleted does no harm: merging it again changes nothing."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # another worker's segments are there
        return
