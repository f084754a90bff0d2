"""nginx before endpoints."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from nginx_kit import Nginx, nginx, why_no_nginx


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    """Starts one before the endpoint at a port: `start_nginx(port, server, zones)`."""
    if why := why_no_nginx():
        missing = pytest.fail if os.environ.get("CI") else pytest.skip  # .ci/run installs it
        missing(why)
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(nginx(tmp_path / "nginx", *args, **kwargs))
