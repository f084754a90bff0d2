"""Does an open loop send what it planned, when it planned it?

    make bench            # three runs; medians; writes benchmarks/results/openloop.md

Each run is a list of steps, 20 s each: constant and poisson, at 50 and at 500 requests a second. What arrived is told
by the oracle's own clock: one row a request, stamped when it had fully arrived. What should have arrived is told by
`latbench.plan.arrivals`, and how late each request left by the samples in the store (`sent` - `due`).

The Kolmogorov–Smirnov p is judged at 50 a second, and only told at 500: an engine takes some 0.07 ms to get a request
out, so that closer arrivals leave that far apart, and ten thousand gaps are enough for the test to see it.
"""

import argparse
import csv
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rig import Oracle, made, need_oracle, oracle, prompts, publish, run, table, yes
from scipy.stats import kstest

from latbench.model.load import Constant, Poisson, Step
from latbench.plan.arrivals import arrivals

SEED = 7
SHAPES = {"constant": Constant, "poisson": Poisson}
ANSWER = ("--ttft-ms", "20", "--itl-ms", "2")
TOKENS = 4
MEAN_OFF = 0.005
LATE_P50_MS, LATE_P99_MS = 0.15, 1.0
DEVIATION_MS = 0.3
LEAST_P, JUDGED_UP_TO = 0.01, 100

Figures = dict[str, float]


def scenario(folder: Path, url: str, rates: list[int], seconds: int) -> Path:
    """A scenario file (JSON is YAML) with a step for each shape and rate."""
    steps = [
        {"shape": shape, "rate": f"{rate}/s", "duration": f"{seconds}s", "warmup": "0s"}
        for rate in rates
        for shape in SHAPES
    ]
    path = folder / "openloop.yaml"
    endpoint = {"name": "oracle", "api": "openai-chat", "base_url": f"{url}/v1", "model": "oracle"}
    path.write_text(
        json.dumps(
            {
                "name": "openloop",
                "version": "1",
                "seed": SEED,
                "endpoints": [endpoint],
                "prompts": {"path": str(prompts(folder))},
                "output": {"max_tokens": TOKENS},
                "load": steps,
            }
        )
    )
    return path


def measure(folder: Path, truth: Oracle, rates: list[int], seconds: int, workers: int) -> dict[str, Figures]:
    """One run; the figures of each of its steps."""
    truth.reset()
    ran = run(folder, [str(scenario(folder, truth.url, rates, seconds)), "--workers", str(workers)])
    truth.stats()
    with truth.csv.open() as rows:
        arrived = np.sort([int(row["t_request_ns"]) for row in csv.DictReader(rows)])
    late_ns: dict[int, list[int]] = {}
    for step, late in ran.rows("SELECT step, sent_ns - due_ns FROM samples WHERE sent_ns IS NOT NULL"):
        late_ns.setdefault(step, []).append(late)
    found: dict[str, Figures] = {}
    at = 0
    for index, (rate, shape) in enumerate((rate, shape) for rate in rates for shape in SHAPES):
        plan = arrivals(Step(SHAPES[shape](float(rate)), duration_ns=seconds * 10**9), SEED, index)
        here = arrived[at : at + len(plan)]
        at += len(plan)
        gaps_ms = np.diff(here) / 1e6
        mean_ms = float(np.diff(plan).mean() / 1e6)
        late_ms = np.array(late_ns.get(index, [np.nan])) / 1e6
        found[f"{shape} {rate}/s"] = {
            "planned": len(plan),
            "sent": len(late_ns.get(index, ())),
            "arrived": len(here),
            "mean_off": float(gaps_ms.mean()) / mean_ms - 1,
            "late_p50_ms": float(np.percentile(late_ms, 50)),
            "late_p99_ms": float(np.percentile(late_ms, 99)),
            "late_max_ms": float(late_ms.max()),
            "deviation_ms": float(gaps_ms.std()),
            "rate": rate,
        }
        fit = kstest(gaps_ms, "expon", args=(0, 1e3 / rate))
        found[f"{shape} {rate}/s"] |= {"p": float(fit.pvalue), "distance": float(fit.statistic)}
    total = sum(int(one["planned"]) for one in found.values())
    for one in found.values():
        one["surplus"] = len(arrived) - total
    return found


def judge(step: str, runs: list[Figures]) -> list[tuple[str, str, str, bool | None]]:
    """Each figure (the median of the runs), what it may be, and whether it is; None for what is only told."""

    def median(name: str) -> float:
        return statistics.median(one[name] for one in runs)

    exact = all(one["planned"] == one["sent"] == one["arrived"] and not one["surplus"] for one in runs)
    off, p50, p99, p = (median(name) for name in ("mean_off", "late_p50_ms", "late_p99_ms", "p"))
    rows: list[tuple[str, str, str, bool | None]] = [
        ("arrived, of planned", f"{median('arrived'):.0f} of {median('planned'):.0f}", "exactly, every run", exact),
        ("mean gap against the plan's", f"{off:+.4%}", f"{MEAN_OFF:.1%}", abs(off) < MEAN_OFF),
        ("start error p50", f"{p50:.3f} ms", f"{LATE_P50_MS} ms", p50 < LATE_P50_MS),
        ("start error p99", f"{p99:.3f} ms", f"{LATE_P99_MS} ms", p99 < LATE_P99_MS),
    ]
    if step.startswith("constant"):
        deviation = median("deviation_ms")
        rows.append(
            ("standard deviation of gaps", f"{deviation:.3f} ms", f"{DEVIATION_MS} ms", deviation < DEVIATION_MS)
        )
    else:
        judged = runs[0]["rate"] <= JUDGED_UP_TO
        fit = f"{p:.3f} (largest distance {median('distance'):.4f})"
        mark = f"> {LEAST_P}" if judged else ""
        rows.append(("Kolmogorov–Smirnov p, exponential", fit, mark, p > LEAST_P if judged else None))
    return rows


def main() -> None:
    """Run, print, write the page; exit 1 where a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--free", action="store_true", help="the oracle gets no core of its own")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    need_oracle()
    runs: list[dict[str, Figures]] = []
    with tempfile.TemporaryDirectory() as name, oracle(Path(name), ANSWER, apart=not arguments.free) as truth:
        for _ in range(arguments.repeat):
            runs.append(measure(Path(name), truth, arguments.rates, arguments.seconds, arguments.workers))
    judged: list[tuple[str, tuple[Any, ...]]] = [
        (step, row) for step in runs[0] for row in judge(step, [one[step] for one in runs])
    ]
    largest = max(one["late_max_ms"] for each in runs for one in each.values())
    lines = [
        "# An open loop against its plan",
        "",
        made(),
        f"Oracle: `{' '.join(ANSWER)}`, {TOKENS} tokens, on {'any core' if arguments.free else 'a core of its own'}; "
        f"{arguments.seconds} s a step, {arguments.workers} worker{'s' if arguments.workers > 1 else ''}; median of "
        f"{arguments.repeat} runs. Arrivals by the oracle's clock, start error as `sent` - `due` in the store (largest "
        f"of all: {largest:.2f} ms).",
        "",
        *table(
            ("load", "figure", "measured", "mark", "holds"),
            [
                (step, what, measured, mark, "" if holds is None else yes(holds))
                for step, (what, measured, mark, holds) in judged
            ],
        ),
    ]
    publish("openloop", lines, holds=all(row[-1] is not False for _, row in judged), write=not arguments.no_write)


if __name__ == "__main__":
    main()
