"""How true the figures are: runs against the independent oracle, held against what really left it.

    make bench            # three runs with one worker, three with two; medians; writes benchmarks/results/accuracy.md

The oracle (../shared/oracle beside the checkout) stamps its chunks as they leave; latbench stamps them as they arrive.
`raw` order statistics of both are compared. A run in which the oracle itself was late says nothing about latbench, so
its own lateness is printed beside every row.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rig import Oracle, made, need_oracle, oracle, prompts, publish, run, table, yes

SHAPE = ("--ttft-ms", "120", "--ttft-sigma", ".3", "--itl-ms", "15", "--itl-sigma", ".2")
METRICS = ("ttft_ms", "tpot_ms", "e2e_ms")
PERCENTILES = ("p50", "p99")
# One worker: 1 % or 0.5 ms, whichever is larger; two workers on two cores: 2 % or 1 ms.
BOUNDS = {1: (0.01, 0.5), 2: (0.02, 1.0)}


def measure(truth: Oracle, folder: Path, workers: int, requests: int, concurrency: int, tokens: int) -> dict[str, Any]:
    """One run; the differences to the oracle's own figures, in ms."""
    truth.reset()
    flags = ["--url", f"{truth.url}/v1", "--model", "oracle", "--prompts", str(prompts(folder))]
    flags += ["--workers", str(workers), "--requests", str(requests), "--concurrency", str(concurrency)]
    ran = run(folder, ["quickstart", *flags, "--max-tokens", str(tokens)])
    endpoint, validity = ran.endpoint, ran.summary["validity"]
    stats = truth.stats()
    row: dict[str, Any] = {
        "workers": workers,
        "ok": endpoint["outcomes"]["ok"],
        "oracle_ok": stats["ok"],
        "tokens": endpoint["tokens"]["output"],
        "oracle_tokens": stats["chunks"],
        "verdict": validity["verdict"],
        "oracle_lateness_p99_ms": stats["own_lateness_ms"]["p99"],
        "engine_cpu": validity["engine_cpu"],
    }
    for metric in METRICS:
        for percentile in PERCENTILES:
            ours, theirs = endpoint["metrics"][metric]["raw"][percentile], stats[metric][percentile]
            row[f"{metric}.{percentile}"] = {"latbench": ours, "oracle": theirs, "difference": ours - theirs}
    return row


def judge(rows: list[dict[str, Any]], workers: int) -> list[dict[str, Any]]:
    """The median difference of each figure, beside what it may be."""
    share, floor_ms = BOUNDS[workers]
    judged = []
    for name in [f"{metric}.{percentile}" for metric in METRICS for percentile in PERCENTILES]:
        difference = statistics.median(row[name]["difference"] for row in rows)
        theirs = statistics.median(row[name]["oracle"] for row in rows)
        limit = max(share * theirs, floor_ms)
        judged.append(
            {
                "figure": name,
                "oracle": theirs,
                "difference": difference,
                "limit": limit,
                "holds": abs(difference) <= limit,
            }
        )
    return judged


def exact(rows: list[dict[str, Any]]) -> bool:
    """Whether nothing is missing and nothing too many, in any run."""
    return all(row["ok"] == row["oracle_ok"] and row["tokens"] == row["oracle_tokens"] for row in rows)


def page(results: dict[int, list[dict[str, Any]]], arguments: argparse.Namespace) -> list[str]:
    """The result as a page."""
    lines = [
        "# Accuracy against the oracle",
        "",
        made(),
        f"Oracle: `{' '.join(SHAPE)}`; {arguments.requests} requests, concurrency {arguments.concurrency}, "
        f"{arguments.tokens} tokens each; median of {arguments.repeat} runs. Figures in ms.",
        "",
    ]
    for workers, rows in results.items():
        lateness = ", ".join(f"{row['oracle_lateness_p99_ms']:.2f}" for row in rows)
        cpu = statistics.median(row["engine_cpu"] for row in rows)
        lines += [
            f"## {workers} worker{'s' if workers > 1 else ''}",
            "",
            f"`ok` and output tokens equal the oracle's in every run: {yes(exact(rows))}. "
            f"Verdicts: {', '.join(row['verdict'] for row in rows)}. "
            f"The oracle's own lateness p99: {lateness} ms. Engine CPU: {cpu:.2f} of a core (the busiest).",
            "",
            *table(
                ("figure", "oracle", "latbench − oracle", "limit", "holds"),
                [
                    (
                        one["figure"].replace("_ms", ""),
                        f"{one['oracle']:.3f}",
                        f"{one['difference']:+.3f} ({one['difference'] / one['oracle']:+.2%})",
                        f"{one['limit']:.3f}",
                        yes(one["holds"]),
                    )
                    for one in judge(rows, workers)
                ],
            ),
        ]
        lines.append("")
    return lines


def main() -> None:
    """Run, print, write the page; exit 1 where a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    need_oracle()
    results: dict[int, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder, oracle(Path(folder), SHAPE) as truth:
        for workers in arguments.workers:
            for _ in range(arguments.repeat):
                shape = (arguments.requests, arguments.concurrency, arguments.tokens)
                results.setdefault(workers, []).append(measure(truth, Path(folder), workers, *shape))
    held = [exact(rows) and all(one["holds"] for one in judge(rows, workers)) for workers, rows in results.items()]
    publish("accuracy", page(results, arguments), holds=all(held), write=not arguments.no_write)


if __name__ == "__main__":
    main()
