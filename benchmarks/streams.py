"""Ten thousand streams at once on one machine: do they all complete, and what do they cost?

    make bench            # one worker, then two; writes benchmarks/results/streams.md

A closed loop of as many slots as requests; answers so slow that all of them overlap. How many did overlap is told by
the oracle. Every process opens one file a stream: with less than that (`ulimit -Hn`) there are fewer streams.
"""

import argparse
import resource
import tempfile
from pathlib import Path
from typing import Any

from rig import Memory, made, need_oracle, oracle, prompts, publish, run, table, yes

TOKENS = 40
ANSWER = ("--ttft-ms", "2000", "--itl-ms", "200")
FILES_BESIDES = 100


def most_files() -> int:
    """Raise the limit of open files as far as it goes, for the oracle, too; what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


def measure(folder: Path, streams: int, workers: int) -> dict[str, Any]:
    """One run; an oracle of its own, so that its counts are of this run."""
    memory = Memory()
    with oracle(folder, ANSWER) as truth:
        flags = ["--url", f"{truth.url}/v1", "--model", "oracle", "--prompts", str(prompts(folder))]
        flags += ["--requests", str(streams), "--concurrency", str(streams), "--max-tokens", str(TOKENS)]
        ran = run(folder, ["quickstart", *flags, "--workers", str(workers)], memory.look)
        stats = truth.stats()
    ((first_ns, last_ns),) = ran.rows("SELECT MIN(sent_ns), MAX(sent_ns) FROM samples")
    (starts,) = (step["started_ns"] for step in ran.record["steps"])
    validity = ran.summary["validity"]
    return {
        "outcomes": ran.endpoint["outcomes"],
        "oracle_ok": stats["ok"],
        "peak": stats["peak_active"],
        "lateness_ms": stats["own_lateness_ms"],
        "verdict": validity["verdict"],
        "reasons": [reason["code"] for reason in validity["reasons"]],
        "cpu": validity["engine_cpu"],
        "start_up_s": starts / 1e9,
        "opening_s": (last_ns - first_ns) / 1e9,
        "ttft": ran.endpoint["metrics"]["ttft_ms"]["raw"],
        "oracle_ttft": stats["ttft_ms"],
        "wall_s": ran.wall_s,
        "peak_mb": memory.peak_mb,
    }


def rows(found: dict[str, Any], streams: int, workers: int) -> list[tuple[str, str, str, str, str]]:
    """Figures of one run, with marks where there are any."""
    ok = {name: count for name, count in found["outcomes"].items() if count}
    all_ok = ok == {"ok": streams} and found["oracle_ok"] == streams
    who = f"{workers} worker{'s' if workers > 1 else ''}"
    said = ", ".join(f"{count} {name}" for name, count in ok.items())
    memory = ", ".join(f"{name} {mb:.0f} MB" for name, mb in found["peak_mb"].items())
    ttft, truth = found["ttft"], found["oracle_ttft"]
    return [
        (who, "outcomes", said, f"{streams} ok, and at the oracle", yes(all_ok)),
        (who, "peak concurrency at the oracle", str(found["peak"]), str(streams), yes(found["peak"] == streams)),
        (who, "engine CPU (the busiest)", f"{found['cpu']:.2f} of a core", "", ""),
        (who, "TTFT p50, latbench − oracle", f"{ttft['p50'] - truth['p50']:+.2f} ms", "", ""),
        (who, "TTFT p99, latbench − oracle", f"{ttft['p99'] - truth['p99']:+.2f} ms", "", ""),
        (who, "the oracle's own lateness p99", f"{found['lateness_ms']['p99']:.2f} ms", "", ""),
        (who, "start-up: to the first request", f"{found['start_up_s']:.1f} s after the workers' start", "", ""),
        (who, "first to last request sent", f"{found['opening_s']:.2f} s", "", ""),
        (who, "memory, peak", memory, "", ""),
        (who, "the whole command", f"{found['wall_s']:.1f} s", "", ""),
        (who, "verdict", " ".join([found["verdict"], *found["reasons"]]), "", ""),
    ]


def main() -> None:
    """Run, print, write the page; exit 1 where a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    need_oracle()
    files = most_files()
    streams = min(arguments.streams, files - FILES_BESIDES)
    told: list[tuple[str, str, str, str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        for workers in arguments.workers:
            told += rows(measure(Path(name), streams, workers), streams, workers)
    lines = [
        "# Ten thousand streams at once",
        "",
        made(),
        f"Oracle: `{' '.join(ANSWER)}`, {TOKENS} tokens; {streams} requests at concurrency {streams}; a process may "
        f"open {files} files here.",
        "",
        *table(("run", "figure", "measured", "mark", "holds"), told),
    ]
    publish("streams", lines, holds=all(row[-1] != "NO" for row in told), write=not arguments.no_write)


if __name__ == "__main__":
    main()
