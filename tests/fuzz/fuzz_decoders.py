"""Fuzz the decoders with atheris (libFuzzer): every dialect, every way in.

    python tests/fuzz/fuzz_decoders.py FOLDER -max_total_time=600

FOLDER keeps what was found interesting; an empty one is filled with the recorded streams first. Other flags are
libFuzzer's. An input that fails is written to `crash-…`, and the command that repeats it is this one with that file.
"""

import sys
from hashlib import sha256
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["latbench.providers", "latbench.wire"]):
    from decoders_target import one_input, seeds


def fill(folder: Path) -> None:
    """Begin with the recorded streams."""
    if not any(folder.iterdir()):
        for seed in seeds():
            (folder / sha256(seed).hexdigest()[:16]).write_bytes(seed)


def main() -> None:
    for argument in sys.argv[1:2]:
        if Path(argument).is_dir():
            fill(Path(argument))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
