"""What makes the start quick. A run imports some 1,100 modules: that is most of its way to the first request."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


def spare_children_and_us() -> None:
    """Settings for libraries that are imported later, here or in a child; whoever has set them knows better.

    numpy's BLAS starts a thread for each core, which costs a tenth of a second of every core and has next to nothing to
    do here. pydantic looks for plugins through all that is installed.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


@contextmanager
def importing() -> Iterator[None]:
    """No garbage collection while modules are imported, nor of them ever after: a fifth of the time went into that."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def entry_points_read_once() -> Iterator[None]:
    """For Locust's import: gevent asks for entry points 25 times, and each time all that is installed is read again."""
    from importlib import metadata  # gevent wants it, and `--help` does not

    ask = metadata.entry_points
    metadata.entry_points = ask().select
    try:
        yield
    finally:
        metadata.entry_points = ask
