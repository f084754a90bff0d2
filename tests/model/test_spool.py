"""The spool: whatever is killed, cut or full, it gives back what was written down and nobody has acknowledged."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import latbench
from latbench.model import spool as spool_module
from latbench.model.sample import Sample
from latbench.model.spool import (
    SEGMENT_BYTES,
    Spool,
    SpoolHeader,
    being_written,
    read_spool,
    remove_spools,
    segments,
    spool_root,
    spools_of,
)

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(latbench.__file__).parent.parent)}
HEADER = SpoolHeader("r1", "1.0", "host-a.example_0a1b")


def begun(seq: int) -> Sample:
    return Sample("e", 0, seq, "p1", "measure", "lost", slot=seq % 4, due_ns=seq * 1000, nonce=f"{seq:08x}")


def ended(seq: int, gaps: bytes = b"") -> Sample:
    return Sample("e", 0, seq, "p1", "measure", "ok", due_ns=seq * 1000, done_ns=seq * 1000 + 1, gaps=gaps)


def samples_in(folder: Path) -> list[Sample]:
    return [sample for path in segments(folder) for sample in read_spool(path)[1]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "root" / "r1"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    made = Spool(folder, HEADER)
    yield made
    made.close(delete=False)


def test_what_was_written_comes_back_in_order(spool: Spool, folder: Path) -> None:
    written = [begun(1), begun(2), ended(2, b"4" + bytes(4000)), ended(1)]
    written[2].text = "naïve \N{SNOWMAN}"
    for sample in written:
        spool.add(sample)
    (path,) = spools_of(folder.parent, "r1")
    header, samples = read_spool(path)
    assert (header.run_id, header.version, header.worker, header.segment) == ("r1", "1.0", HEADER.worker, 1)
    assert list(samples) == written
    assert spool.failed is None


def test_only_its_user_may_read_it(spool: Spool, folder: Path) -> None:
    modes = [path.stat().st_mode & 0o777 for path in (folder.parent, folder, *segments(folder))]
    assert modes == [0o700, 0o700, 0o600]


SAMPLES = st.builds(
    Sample,
    endpoint=st.text(max_size=5),
    step=st.integers(0, 9),
    seq=st.integers(0, 2**62),
    prompt_id=st.text(max_size=5),
    phase=st.sampled_from(["warmup", "measure"]),
    outcome=st.sampled_from(["ok", "lost", "timeout"]),
    done_ns=st.none() | st.integers(0, 2**63 - 1),
    gaps=st.binary(max_size=300),
    text=st.none() | st.text(max_size=300),
)


@given(st.lists(SAMPLES, max_size=5), st.data())
def test_a_spool_cut_anywhere_gives_the_samples_before_the_cut(written: list[Sample], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "r1"
        made = Spool(folder, HEADER)
        (path,) = segments(folder)
        ends = [path.stat().st_size]
        for sample in written:
            made.add(sample)
            ends.append(path.stat().st_size)
        made.close(delete=False)
        cut = data.draw(st.integers(0, ends[-1]))
        os.truncate(path, cut)
        if cut < ends[0]:
            with pytest.raises(ValueError, match="not a spool"):
                read_spool(path)
        else:
            whole = sum(end <= cut for end in ends) - 1
            assert list(read_spool(path)[1]) == written[:whole]


class Requests:
    """An engine's requests and batches beside the spool that it keeps of them."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self.folder = folder
        self.spool = Spool(folder, HEADER, segment_bytes)
        self.next_seq = 0
        self.open: dict[int, Sample] = {}
        self.fresh: list[Sample] = []  # in no batch yet
        self.batches: dict[int, list[Sample]] = {}  # handed over and not acknowledged
        self.number = 41  # the engine has made another run before
        self.stored: dict[int, str] = {}

    def _add(self, sample: Sample) -> None:
        self.spool.add(sample)
        self.fresh.append(sample)

    def begin(self) -> None:
        self.open[self.next_seq] = begun(self.next_seq)
        self._add(self.open[self.next_seq])
        self.next_seq += 1

    def end(self, which: int) -> None:
        if self.open:
            seq = sorted(self.open)[which % len(self.open)]
            del self.open[seq]
            self._add(ended(seq))

    def hand_over(self) -> None:
        self.number += 1
        self.batches[self.number] = self.fresh
        self.fresh = []
        self.spool.rotate(self.number, self.open.values())

    def acknowledge(self, which: int) -> None:
        if self.batches:
            number = sorted(self.batches)[which % len(self.batches)]
            for sample in self.batches.pop(number):
                self.store(sample)
            self.spool.acknowledged(number)
            self.spool.acknowledged(number)  # a master may say it twice

    def store(self, sample: Sample) -> None:
        if self.stored.get(sample.seq, "lost") == "lost":
            self.stored[sample.seq] = sample.outcome


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["begin", "begin", "end", "hand_over", "acknowledge"]), st.integers(0, 99)), max_size=60
)


@given(ACTIONS, st.integers(0, 400))
def test_store_and_spool_have_every_request_after_a_kill_at_any_moment(
    actions: list[tuple[str, int]], segment_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        engine = Requests(Path(root) / "r1", segment_bytes)
        for name, which in actions:
            if name in ("end", "acknowledge"):
                getattr(engine, name)(which)
            else:
                getattr(engine, name)()
        found = samples_in(engine.folder)  # as a kill leaves it: nothing was closed
        waiting = [sample for batch in engine.batches.values() for sample in batch] + engine.fresh
        for sample in [*waiting, *engine.open.values()]:
            assert sample in found
        for sample in found:
            engine.store(sample)
        fates = {seq: "lost" if seq in engine.open else "ok" for seq in range(engine.next_seq)}
        assert engine.stored == fates
        engine.spool.close(delete=True)
        assert not engine.folder.exists()


def test_segments_go_when_all_batches_up_to_their_end_are_acknowledged(folder: Path) -> None:
    made = Spool(folder, HEADER, segment_bytes=1)
    for number in (1, 2, 3):
        made.add(ended(number))
        made.rotate(number, [begun(100)])
    assert [read_spool(path)[0].segment for path in segments(folder)] == [1, 2, 3, 4]
    made.acknowledged(2)
    made.acknowledged(3)
    assert len(segments(folder)) == 4, "batch 1 is still on its way"
    made.acknowledged(1)
    assert [read_spool(path)[0].segment for path in segments(folder)] == [4]
    assert samples_in(folder) == [begun(100)]
    made.close(delete=True)


def test_a_small_segment_is_not_ended(spool: Spool, folder: Path) -> None:
    spool.add(ended(1))
    spool.rotate(1, [])
    spool.acknowledged(1)
    assert samples_in(folder) == [ended(1)]


def test_a_large_segment_is_ended(spool: Spool, folder: Path) -> None:
    large = ended(1, b"4" + bytes(SEGMENT_BYTES // 4 * 4))
    spool.add(large)
    spool.rotate(7, [begun(2)])
    spool.add(ended(2))
    assert samples_in(folder) == [large, begun(2), ended(2)]
    spool.acknowledged(7)
    assert samples_in(folder) == [begun(2), ended(2)]


def test_a_new_engine_of_the_same_name_goes_on_behind_the_old_one(folder: Path) -> None:
    for seq in range(12):
        made = Spool(folder, HEADER)
        made.add(ended(seq))
        made.close(delete=False)
    assert [read_spool(path)[0].segment for path in segments(folder)] == list(range(1, 13))
    assert [sample.seq for sample in samples_in(folder)] == list(range(12))


@given(st.sets(st.text(st.characters(codec="utf-8"), max_size=120), min_size=2, max_size=4))
def test_workers_do_not_mix_whatever_their_names(workers: set[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "r1"
        for worker in workers:
            made = Spool(folder, SpoolHeader("r1", "1.0", worker), segment_bytes=0)
            made.rotate(1, [])
            assert made.failed is None
            made.close(delete=False)
        for worker in workers:
            assert [read_spool(path)[0].worker for path in spools_of(Path(root), "r1", worker)] == [worker] * 2
        assert len(spools_of(Path(root), "r1")) == 2 * len(workers)
        assert {path.parent for path in folder.rglob("*")} == {folder}


def test_closing_one_worker_leaves_the_others(folder: Path) -> None:
    one, other = (Spool(folder, SpoolHeader("r1", "1.0", worker)) for worker in ("w", "w-1"))
    one.close(delete=True)
    assert [read_spool(path)[0].worker for path in segments(folder)] == ["w-1"]
    other.close(delete=True)
    assert not folder.exists()
    assert folder.parent.exists(), "other runs have their spools there"


def test_after_its_end_nothing_is_written(spool: Spool, folder: Path) -> None:
    spool.close(delete=False)
    spool.add(begun(1))
    spool.rotate(1, [])
    spool.close(delete=False)
    assert samples_in(folder) == []
    assert spool.failed is None, "an end is no failure"


# --- what is no spool -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\0", b"a page of notes" * 99, b"\xff" * 99, bytes(99), b"\0\0\0\x01\xc0"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x-000001.spool"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x-000001.spool: not a spool of latbench's"):
        read_spool(path)


def test_a_damaged_spool_gives_what_stands_before_the_damage(spool: Spool, folder: Path) -> None:
    spool.add(ended(1))
    (path,) = segments(folder)
    good = path.stat().st_size
    spool.add(ended(2))
    data = bytearray(path.read_bytes())
    data[good + 4] = 0xC1  # MessagePack has no such byte
    path.write_bytes(data)
    _, samples = read_spool(path)
    assert next(samples) == ended(1)
    with pytest.raises(ValueError, match="damaged after 1 samples"):
        next(samples)


def test_files_with_other_names_are_passed_over(spool: Spool, folder: Path) -> None:
    for name in ("notes.txt", "x.spool", "x-y.spool", "x-000001.tmp"):
        (folder / name).touch()
    assert len(spools_of(folder.parent, "r1")) == 1
    assert spools_of(folder.parent, "r2") == []


def test_the_spools_of_one_run_are_removed(spool: Spool, folder: Path) -> None:
    kept = Spool(folder.with_name("r2"), SpoolHeader("r2", "1.0", "w"))
    remove_spools(folder.parent, "r1")
    remove_spools(folder.parent, "absent")
    assert [path.name for path in folder.parent.iterdir()] == ["r2"]
    kept.close(delete=True)


# --- where they are ---------------------------------------------------------------------------------------------------


def test_the_folder_that_is_named_is_used() -> None:
    assert spool_root({"LATBENCH_SPOOL": "some/where"}) == Path("some/where")


def test_shared_memory_is_used_where_there_is_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spool_module, "_SHARED_MEMORY", tmp_path)
    assert spool_root({}) == spool_root({"LATBENCH_SPOOL": ""}) == tmp_path / f"latbench-{os.getuid()}"
    monkeypatch.setattr(spool_module, "_SHARED_MEMORY", tmp_path / "absent")
    assert spool_root({}) == Path(tempfile.gettempdir()) / f"latbench-{os.getuid()}"


# --- what fails -------------------------------------------------------------------------------------------------------


def test_a_place_where_no_folder_can_be_ends_the_spool_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    made = Spool(tmp_path / "file" / "r1", HEADER)
    assert made.failed == f"{tmp_path / 'file' / 'r1'}: File exists"
    made.add(begun(1))
    made.rotate(1, [begun(1)])
    made.acknowledged(1)
    made.close(delete=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a folder to another user")
def test_a_folder_that_somebody_else_made_is_not_used(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chown(folder, 12345, -1)
    made = Spool(folder, HEADER)
    assert made.failed == f"{folder}: belongs to another user"
    assert list(folder.iterdir()) == []


def test_a_folder_that_goes_away_ends_the_spool_when_a_segment_should_begin(folder: Path) -> None:
    made = Spool(folder, HEADER, segment_bytes=0)
    shutil.rmtree(folder)
    made.add(begun(1))
    assert made.failed is None
    made.rotate(1, [])
    assert made.failed is not None
    assert made.failed.endswith("No such file or directory")
    made.add(begun(2))
    made.close(delete=True)


def test_a_segment_that_cannot_be_deleted_stays(folder: Path) -> None:
    made = Spool(folder, HEADER, segment_bytes=0)
    (path,) = segments(folder)
    made.rotate(1, [])
    path.unlink()
    path.mkdir()
    made.acknowledged(1)
    made.close(delete=True)
    assert list(folder.iterdir()) == [path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(where)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


def test_a_full_disk_ends_the_spool_and_keeps_what_was_written(small_disk: Path) -> None:
    folder = small_disk / "r1"
    made = Spool(folder, HEADER)
    fitting = 0
    while made.failed is None:
        made.add(ended(fitting, b"4" + bytes(9_000)))
        fitting += 1
        assert fitting < 1000
    assert made.failed.endswith("No space left on device")
    (path,) = segments(folder)
    assert made.failed.startswith(str(path))
    size = path.stat().st_size
    assert [sample.seq for sample in read_spool(path)[1]] == list(range(fitting - 1))
    made.add(begun(1))
    made.rotate(1, [begun(1)])
    assert path.stat().st_size == size, "the failed frame must stay the last one"
    made.close(delete=True)
    assert not folder.exists()


def test_a_disk_that_is_too_full_for_the_next_segment_keeps_the_last_one(small_disk: Path) -> None:
    folder = small_disk / "r1"
    made = Spool(folder, HEADER, segment_bytes=0)
    made.add(ended(1, b"4" + bytes(150_000)))
    made.rotate(1, [begun(seq) for seq in range(4000)])
    assert made.failed is not None
    assert made.failed.endswith("No space left on device")
    assert [sample.seq for sample in samples_in(folder)] == [1]
    assert [path.suffix for path in folder.iterdir()] == [".spool"], "the beginning of the next one is gone"
    made.close(delete=False)


# --- processes --------------------------------------------------------------------------------------------------------


ENGINE = """
import sys
from pathlib import Path
from latbench.model.sample import Sample
from latbench.model.spool import Spool, SpoolHeader
spool = Spool(Path(sys.argv[1]), SpoolHeader("r1", "1.0", "w"))
seq = 0
while True:
    spool.add(Sample("e", 0, seq, "p1", "measure", "lost"))
    if seq == 5000:
        print("going", flush=True)
    if seq == 200_000:  # whoever should kill this is late
        sys.stdin.read()
    seq += 1
"""


def test_a_killed_engine_leaves_whole_samples_and_no_lock(folder: Path) -> None:
    command = [sys.executable, "-c", ENGINE, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"going\n"
            assert being_written(segments(folder)[-1])
        finally:
            child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert not being_written(segments(folder)[-1])
    seqs = [sample.seq for sample in samples_in(folder)]
    assert seqs == list(range(len(seqs)))
    assert len(seqs) > 5000
