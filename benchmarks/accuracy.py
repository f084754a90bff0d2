"""How true the figures are: runs against the independent oracle, held against what really left it.

    make bench            # three runs with one worker, three with two; medians; writes benchmarks/results/accuracy.md

The oracle (../shared/oracle beside the checkout) stamps its chunks as they leave; latbench stamps them as they arrive.
`raw` order statistics of both are compared. A run in which the oracle itself was late says nothing about latbench, so
its own lateness is printed beside every row.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ORACLE = ROOT.parent / "shared" / "oracle" / "oracle.c"
RESULTS = ROOT / "benchmarks" / "results"
SHAPE = ("--ttft-ms", "120", "--ttft-sigma", ".3", "--itl-ms", "15", "--itl-sigma", ".2")
METRICS = ("ttft_ms", "tpot_ms", "e2e_ms")
PERCENTILES = ("p50", "p99")
# One worker: 1 % or 0.5 ms, whichever is larger; two workers on two cores: 2 % or 1 ms.
BOUNDS = {1: (0.01, 0.5), 2: (0.02, 1.0)}
LATENESS_MS = 1.0


@contextmanager
def oracle(folder: Path, options: Sequence[str]) -> Iterator[str]:
    """The oracle, compiled and running; its base URL."""
    binary = folder / "oracle"
    subprocess.run(["cc", "-O2", "-o", str(binary), str(ORACLE), "-lm"], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([str(binary), "--port", str(port), *options], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def ask(url: str, *, post: bool = False) -> dict[str, Any]:
    """A JSON answer of the oracle's."""
    request = urllib.request.Request(url, method="POST" if post else "GET")
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def prompts(folder: Path) -> Path:
    """Prompts so short that sending them is no part of what is measured."""
    path = folder / "short.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{n}", "prompt": f"Write function {n}."}) + "\n" for n in range(40)))
    return path


def measure(url: str, folder: Path, workers: int, requests: int, concurrency: int, tokens: int) -> dict[str, Any]:
    """One run; the differences to the oracle's own figures, in ms."""
    ask(f"{url}/oracle/reset", post=True)
    out = Path(tempfile.mkdtemp(dir=folder))
    flags = ["--url", f"{url}/v1", "--model", "oracle", "--prompts", str(prompts(folder)), "--workers", str(workers)]
    flags += ["--requests", str(requests), "--concurrency", str(concurrency), "--max-tokens", str(tokens)]
    command = [sys.executable, "-m", "latbench", "run", "quickstart", *flags, "--out", str(out), "--json", "--quiet"]
    finished = subprocess.run(
        [*command, "--store", str(folder / "bench.db")], capture_output=True, text=True, check=False, cwd=folder
    )
    if finished.returncode:
        sys.exit(f"latbench ended with {finished.returncode}: {finished.stderr}")
    summary = json.loads(finished.stdout)
    endpoint = summary["endpoints"]["oracle"]
    truth = ask(f"{url}/oracle/stats")
    row: dict[str, Any] = {
        "workers": workers,
        "ok": endpoint["outcomes"]["ok"],
        "oracle_ok": truth["ok"],
        "tokens": endpoint["tokens"]["output"],
        "oracle_tokens": truth["chunks"],
        "verdict": summary["validity"]["verdict"],
        "oracle_lateness_p99_ms": truth["own_lateness_ms"]["p99"],
        "engine_cpu": summary["validity"]["engine_cpu"],
    }
    for metric in METRICS:
        for percentile in PERCENTILES:
            ours, theirs = endpoint["metrics"][metric]["raw"][percentile], truth[metric][percentile]
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


def machine() -> str:
    """What was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores, {model}, Linux {platform.release()}, Python {platform.python_version()}"


def page(results: dict[int, list[dict[str, Any]]], arguments: argparse.Namespace) -> str:
    """The result as a page."""
    lines = [
        "# Accuracy against the oracle",
        "",
        f"Made by `make bench` on {datetime.now(UTC):%Y-%m-%d}; {machine()}.",
        f"Oracle: `{' '.join(SHAPE)}`; {arguments.requests} requests, concurrency {arguments.concurrency}, "
        f"{arguments.tokens} tokens each; median of {arguments.repeat} runs. Figures in ms.",
        "",
    ]
    for workers, rows in results.items():
        lateness = ", ".join(f"{row['oracle_lateness_p99_ms']:.2f}" for row in rows)
        exact = all(row["ok"] == row["oracle_ok"] and row["tokens"] == row["oracle_tokens"] for row in rows)
        cpu = statistics.median(row["engine_cpu"] for row in rows)
        lines += [
            f"## {workers} worker{'s' if workers > 1 else ''}",
            "",
            f"`ok` and output tokens equal the oracle's in every run: {'yes' if exact else 'NO'}. "
            f"Verdicts: {', '.join(row['verdict'] for row in rows)}. "
            f"The oracle's own lateness p99: {lateness} ms. Engine CPU: {cpu:.2f} of a core (the busiest).",
            "",
            "| figure | oracle | latbench − oracle | limit | holds |",
            "|---|---:|---:|---:|---|",
        ]
        lines += [
            f"| {one['figure'].replace('_ms', '')} | {one['oracle']:.3f} | {one['difference']:+.3f} "
            f"({one['difference'] / one['oracle']:+.2%}) | {one['limit']:.3f} | {'yes' if one['holds'] else 'NO'} |"
            for one in judge(rows, workers)
        ]
        lines.append("")
    return "\n".join(lines)


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
    if not ORACLE.exists() or shutil.which("cc") is None:
        print("skipped: needs ../shared/oracle beside the checkout, and cc")
        return
    results: dict[int, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder, oracle(Path(folder), SHAPE) as url:
        for workers in arguments.workers:
            for _ in range(arguments.repeat):
                shape = (arguments.requests, arguments.concurrency, arguments.tokens)
                results.setdefault(workers, []).append(measure(url, Path(folder), workers, *shape))
    text = page(results, arguments)
    print(text)
    if not arguments.no_write:
        (RESULTS / "accuracy.md").write_text(text, encoding="utf-8")
    held = [one["holds"] for workers, rows in results.items() for one in judge(rows, workers)]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
