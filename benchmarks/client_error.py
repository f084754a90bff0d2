"""What latbench's own error is on this machine: the null test of a run, at several concurrencies.

    make bench            # writes benchmarks/results/client_error.md

Each figure is the median of several runs, each with a null test and next to no load after it. Nothing is held against a
mark: what a machine adds to a stamp is its own, and every run says what it was.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from rig import made, prompts, publish, run, table

CONCURRENCIES = (1, 20, 50, 200, 500)
FIGURES = (("ttft_error_ms", "p50"), ("ttft_error_ms", "p99"), ("lag_ms", "p50"), ("lag_ms", "p90"), ("lag_ms", "p99"))


def null_test(folder: Path, concurrency: int) -> dict[str, Any]:
    """The null test of one run."""
    flags = ["--requests", "1", "--concurrency", str(concurrency), "--max-tokens", "2"]
    ran = run(folder, ["quickstart", *flags, "--prompts", str(prompts(folder))])
    found: dict[str, Any] = ran.summary["validity"]["null_test"]
    return found


def main() -> None:
    """Run, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for concurrency in CONCURRENCIES:
            found = [null_test(Path(name), concurrency) for _ in range(arguments.runs)]
            cells = (f"{median(one[table][rank] for one in found):.2f} ms" for table, rank in FIGURES)
            rows.append((str(concurrency), *cells, f"{min(100, 5000 // concurrency)} chunks/s each"))
    lines = [
        "# The client's own error",
        "",
        made(),
        f"Null tests before runs of latbench, both processes on this machine; medians of {arguments.runs}.",
        "",
        *table(("streams", "TTFT +, p50", "p99", "a chunk late, p50", "p90", "p99", "load"), rows),
    ]
    publish("client_error", lines, holds=True, write=not arguments.no_write)


if __name__ == "__main__":
    main()
