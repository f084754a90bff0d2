"""A quick start leaves nothing behind but what was imported."""

import gc
import os
from importlib import metadata

import pytest

from latbench.cli.imports import entry_points_read_once, importing, spare_children_and_us

GROUPS = ("console_scripts", "nobody.has.this")


def ask() -> list[list[metadata.EntryPoint]]:
    """For groups, as gevent does."""
    return [list(metadata.entry_points(group=group)) for group in GROUPS]


def broken() -> None:
    raise ImportError


def test_entry_points_are_the_same_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before, read, entry_points = ask(), [], metadata.entry_points
    monkeypatch.setattr(metadata, "entry_points", lambda **wanted: read.append(wanted) or entry_points(**wanted))
    with entry_points_read_once():
        assert ask() == before
    assert read == [{}]
    with pytest.raises(ImportError), entry_points_read_once():
        broken()
    assert ask() == before
    assert read == [{}, {}, {"group": GROUPS[0]}, {"group": GROUPS[1]}]


def test_garbage_is_collected_again() -> None:
    try:
        with importing():
            assert not gc.isenabled()
        assert gc.isenabled()
        with pytest.raises(ImportError), importing():
            broken()
        assert gc.isenabled()
    finally:
        gc.unfreeze()


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "")
    spare_children_and_us()
    assert (os.environ["OPENBLAS_NUM_THREADS"], os.environ["PYDANTIC_DISABLE_PLUGINS"]) == ("4", "")
