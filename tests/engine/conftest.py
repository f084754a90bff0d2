"""What all tests of the engine share: both transports, and certificates of our own."""

import subprocess

import pytest
from servers import Certificate

from latbench.engine.plain import PlainTransport
from latbench.engine.stamped import StampedTransport


@pytest.fixture(
    params=[
        pytest.param(StampedTransport, id="stamped"),
        pytest.param(PlainTransport, id="plain", marks=pytest.mark.long),  # the fall-back
    ]
)
def make(request: pytest.FixtureRequest) -> type[StampedTransport] | type[PlainTransport]:
    """Either transport: the outcome must not depend on it."""
    found: type[StampedTransport] | type[PlainTransport] = request.param
    return found


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificate, Certificate]:
    """Two, which know nothing of each other."""
    folder = tmp_path_factory.mktemp("tls")
    made = []
    for name in ("ours", "other"):
        found = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
        command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name}"
        more = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
        files = ["-keyout", str(found.key), "-out", str(found.path)]
        subprocess.run([*command.split(), *more, *files], check=True, capture_output=True)
        made.append(found)
    return made[0], made[1]
