"""Writes grafana/dashboards/*.json from the boards in code.

`python grafana/build.py` writes them; with `--check` it writes nothing and exits 1 where one is out of date.
"""

import json
import sys
from pathlib import Path
from typing import Any

from boards import BOARDS
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from panels import Board, built, finished

DASHBOARDS = Path(__file__).parent / "dashboards"


def model(board: Board) -> dict[str, Any]:
    """A board as Grafana's JSON."""
    encoded: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True, indent=2).encode(built(board).build()))
    return finished(encoded)


def texts() -> dict[Path, str]:
    """What belongs into each file."""
    return {
        DASHBOARDS / f"{board.uid.removeprefix('latbench-')}.json": json.dumps(model(board), indent=1, sort_keys=True)
        + "\n"
        for board in BOARDS
    }


def main() -> None:
    """Write the files, or check them."""
    stale = []
    for path, text in texts().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv[1:]:
        sys.exit(f"grafana/dashboards: out of date: {', '.join(stale)}; run `make dashboards`")


if __name__ == "__main__":
    main()
