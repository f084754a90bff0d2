"""Does memory stay flat in a long run?

    make bench            # 500,000 short requests; writes benchmarks/results/memory.md

Resident memory of every process is looked at once a second. Flat means: from the moment at which a tenth of the
requests has been stored until the last one has, no process grows by more than 20 MB. The summary at the end reads all
samples at once and may take more; that peak is printed, too.
"""

import argparse
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from rig import Memory, made, need_oracle, oracle, prompts, publish, run, table, yes

ANSWER = ("--ttft-ms", "1", "--itl-ms", "0")
TOKENS = 2
FLAT_MB = 20.0


class Look:
    """Memory, and how many requests have ended by then."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.ended: list[int] = []

    def __call__(self, parent: int, store: Path) -> None:
        self.memory.look(parent)
        self.ended.append(ended(store))


def ended(store: Path) -> int:
    """How many rows the store has; quickly, because they are never deleted."""
    if not store.exists():
        return 0
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5)) as connection:
        try:
            ((count,),) = connection.execute("SELECT MAX(rowid) FROM samples").fetchall()
        except sqlite3.OperationalError:
            return 0
    return count or 0


def measure(folder: Path, requests: int, concurrency: int, workers: int) -> dict[str, Any]:
    """One run; resident memory of each process at some moments of it."""
    look = Look()
    with oracle(folder, ANSWER) as truth:
        flags = ["--url", f"{truth.url}/v1", "--model", "oracle", "--prompts", str(prompts(folder))]
        flags += ["--requests", str(requests), "--concurrency", str(concurrency), "--max-tokens", str(TOKENS)]
        ran = run(folder, ["quickstart", *flags, "--workers", str(workers)], look)
        stats = truth.stats()
    (step,) = ran.record["steps"]
    load_s = (step["measure_to_ns"] - step["started_ns"]) / 1e9
    seen = [now for _, now in look.memory.seen]

    def when(share: float) -> int:
        """The first look at which so much had been stored."""
        return next(at for at, count in enumerate(look.ended) if count >= share * requests)

    tenth, half, full = when(0.1), when(0.5), when(1.0)
    names = [name for name in ("parent", "worker", "engine") if name in seen[half]]
    return {
        "ok": ran.endpoint["outcomes"]["ok"],
        "oracle_ok": stats["ok"],
        "rate": requests / load_s,
        "load_s": load_s,
        "after_s": ran.wall_s - load_s,
        "verdict": ran.summary["validity"]["verdict"],
        "cpu": ran.summary["validity"]["engine_cpu"],
        "store_mb": ran.store.stat().st_size / 1e6,
        "memory": {
            name: {
                "tenth": seen[tenth][name],
                "half": seen[half][name],
                "full": seen[full][name] if name in seen[full] else seen[full - 1][name],
                "most": max(now.get(name, 0.0) for now in seen[tenth : full + 1]),
                "summary": max((now.get(name, 0.0) for now in seen[full:]), default=0.0),
            }
            for name in names
        },
    }


def main() -> None:
    """Run, print, write the page; exit 1 where a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    need_oracle()
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), arguments.requests, arguments.concurrency, arguments.workers)
    grown = {name: one["most"] - one["tenth"] for name, one in found["memory"].items()}
    exact = found["ok"] == found["oracle_ok"] == arguments.requests
    lines = [
        "# Memory over a long run",
        "",
        made(),
        f"Oracle: `{' '.join(ANSWER)}`, {TOKENS} tokens; {arguments.requests} requests, concurrency "
        f"{arguments.concurrency}, {arguments.workers} worker{'s' if arguments.workers > 1 else ''}. Resident memory "
        f"in MB; growth from 10 % to the most that was seen before the load ended.",
        "",
        *table(
            ("process", "10 %", "50 %", "100 %", "growth", "mark", "during the summary", "holds"),
            [
                (
                    name,
                    *(f"{one[key]:.1f}" for key in ("tenth", "half", "full")),
                    f"{grown[name]:+.1f}",
                    f"{FLAT_MB:.0f}",
                    f"{one['summary']:.1f}" if one["summary"] else "—",
                    yes(grown[name] < FLAT_MB),
                )
                for name, one in found["memory"].items()
            ],
        ),
        "",
        f"All ok, and as many at the oracle: {yes(exact)}. Verdict: {found['verdict']}. "
        f"{found['rate']:.0f} requests/s for {found['load_s']:.0f} s; start and summary took "
        f"{found['after_s']:.0f} s. Engine CPU: {found['cpu']:.2f} of a core. Store: {found['store_mb']:.0f} MB.",
    ]
    holds = exact and all(one < FLAT_MB for one in grown.values())
    publish("memory", lines, holds=holds, write=not arguments.no_write)


if __name__ == "__main__":
    main()
