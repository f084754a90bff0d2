"""What does latbench cost, beside the least that a client can cost?

    make bench            # rounds of everything; medians; writes benchmarks/results/speed.md

Each round measures latbench, the floor (`floor.py`: a bare uvloop and httptools client) and wrk (where it is installed;
it reads and drops) one after the other against the same oracle. Processor time is user and system time of the process
that streams: latbench's own account of its engine over the step, the floor's of its load, the kernel's of wrk.

The oracle has a core for itself, and everything of the client the others, as long as a load is measured. Start-up and
`--help` are measured with all cores for everybody: children start beside their parent.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig import Memory, Oracle, Ran, made, need_oracle, oracle, prompts, publish, run, table, yes

from latbench.analysis.client import Lags

B = ("--ttft-ms", "100", "--itl-ms", "5")
SHORT = ("--ttft-ms", "1", "--itl-ms", "0")
TTFT_S, GAP_S = 0.1, 0.005
SHARES = (0.25, 0.5, 0.9)
SHORT_TOKENS = 1
SHORT_CONCURRENCY = 20
WRK_S = 4
STARTS = 3

MARKS = {
    "chunk": 1.8,
    "request": 4.0,
    "ttft_p50": 0.005,
    "ttft_p99": 0.02,
    "lag_ms": 0.2,
    "start_s": 1.5,
    "help_s": 0.3,
    "memory_mb": 250.0,
    "exit_s": 1.0,
}
Figures = dict[str, float]


@dataclass
class Found:
    """What every round came to: figures by their names, one for each round."""

    seen: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: Figures) -> None:
        """Take the figures of a round."""
        for name, value in figures.items():
            self.seen.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> float:
        """The median over the rounds."""
        return statistics.median(self.seen[name])

    def __contains__(self, name: str) -> bool:
        return name in self.seen

    def least(self, name: str) -> float:
        """The least over the rounds: what it takes where nobody else is on the machine."""
        return min(self.seen[name])

    def ratio(self, name: str, base: str) -> float:
        """The median over the rounds of one figure against another of the same round."""
        return statistics.median(a / b for a, b in zip(self.seen[name], self.seen[base], strict=True))


# --- the three clients ---------------------------------------------------------------------------------------------


def latbench(folder: Path, truth: Oracle, requests: int, concurrency: int, tokens: int, memory: Memory) -> Ran:
    """One run without a null test."""
    truth.reset()
    flags = ["--url", f"{truth.url}/v1", "--model", "oracle", "--prompts", str(prompts(folder)), "--no-null-test"]
    flags += ["--requests", str(requests), "--concurrency", str(concurrency), "--max-tokens", str(tokens)]
    return run(folder, ["quickstart", *flags], memory.look)


def floor(truth: Oracle, requests: int, concurrency: int, tokens: int) -> dict[str, Any]:
    """One run of the floor."""
    truth.reset()
    command = [sys.executable, str(Path(__file__).with_name("floor.py")), truth.url, "--requests", str(requests)]
    command += ["--concurrency", str(concurrency), "--tokens", str(tokens)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def wrk_cpu_s(folder: Path, truth: Oracle, concurrency: int, tokens: int) -> float:
    """Processor time of wrk for some seconds of the same requests."""
    truth.reset()
    said = [{"role": "user", "content": "Write function 1."}]
    asked = {"model": "oracle", "messages": said, "max_tokens": tokens, "stream": True}
    body = json.dumps(asked | {"stream_options": {"include_usage": True}})
    script = folder / "post.lua"
    script.write_text(
        f'wrk.method = "POST"\nwrk.body = [==[{body}]==]\nwrk.headers["Content-Type"] = "application/json"\n'
    )
    command = ["wrk", "-t1", f"-c{concurrency}", f"-d{WRK_S}s", "--timeout", "10s", "-s", str(script)]
    process = subprocess.Popen([*command, f"{truth.url}/v1/chat/completions"], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"wrk ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def engine_cpu_s(ran: Ran) -> float:
    """Processor time of the engine over the step, as its batches tell it."""
    ((cpu_ns,),) = ran.rows("SELECT SUM(cpu_ns) FROM efforts")
    return float(cpu_ns) / 1e9


def lag_ms(ran: Ran, k_per_mille: int) -> float:
    """The engine's lag over the step: of what the probe saw and what chunks waited, the larger."""
    lags = Lags()
    for probe, chunk in ran.rows("SELECT probe, chunk FROM efforts"):
        lags.probe.add_counted(probe)
        lags.chunk.add_counted(chunk)
    return max((one.percentile(k_per_mille) or 0) / 1e6 for one in (lags.probe, lags.chunk))


def oracle_rows(truth: Oracle) -> Iterator[dict[str, int]]:
    """One row a request, as the oracle saw it."""
    with truth.csv.open() as rows:
        for row in csv.DictReader(rows):
            yield {name: int(value) for name, value in row.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The value of rank ceil(n * share)."""
    ordered = sorted(values)
    return ordered[max(1, -(-len(ordered) * round(share * 1000) // 1000)) - 1]


# --- what is measured -----------------------------------------------------------------------------------------------


def round_of_b(folder: Path, truth: Oracle, arguments: argparse.Namespace) -> Figures:
    """B with each of the three: CPU, TTFT against the oracle's, memory, exit."""
    shape = (arguments.requests, arguments.concurrency, arguments.tokens)
    bare = floor(truth, *shape)
    stats = truth.stats()
    found: Figures = {"floor_us": bare["cpu_s"] * 1e6 / stats["chunks"]}
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        found[f"floor_{name}"] = percentile(bare["ttft_ms"], share) / stats["ttft_ms"][name] - 1
    memory = Memory()
    ran = latbench(folder, truth, *shape, memory)
    stats = truth.stats()
    ok, tokens = ran.endpoint["outcomes"]["ok"], ran.endpoint["tokens"]["output"]
    if (ok, tokens) != (stats["ok"], stats["chunks"]) or ok != arguments.requests:
        sys.exit(f"{ok} ok and {tokens} tokens, but {stats['ok']} and {stats['chunks']} at the oracle")
    found["latbench_us"] = engine_cpu_s(ran) * 1e6 / stats["chunks"]
    for name in ("p50", "p99"):
        found[f"ttft_{name}"] = ran.endpoint["metrics"]["ttft_ms"]["raw"][name] / stats["ttft_ms"][name] - 1
        found[f"oracle_{name}"] = stats["ttft_ms"][name]
    found["oracle_late_ms"] = stats["own_lateness_ms"]["p99"]
    found["lag_B"] = lag_ms(ran, 900)
    found["exit_s"] = (ran.ended_ns - max(row["t_last_ns"] for row in oracle_rows(truth))) / 1e9
    found |= {f"{name}_mb": mb for name, mb in memory.most.values()}
    found["parent_mb"] = max(found["parent_mb"], ran.peak_mb)  # its summary comes after the last look
    found["memory_mb"] = sum(value for name, value in found.items() if name.endswith("_mb"))
    if shutil.which("wrk"):
        cpu_s = wrk_cpu_s(folder, truth, arguments.concurrency, arguments.tokens)
        found["wrk_us"] = cpu_s * 1e6 / truth.stats()["chunks"]
    return found


def round_of_lags(folder: Path, truth: Oracle, us: float, tokens: int, seconds: float) -> Figures:
    """Lag at shares of what a core could do at `us` of processor time a chunk."""
    answer_s = TTFT_S + (tokens - 1) * GAP_S
    found: Figures = {"maximum": 1e6 / us}
    for share in SHARES:
        concurrency = max(1, round(share * 1e6 / us * answer_s / tokens))
        ran = latbench(folder, truth, round(concurrency * seconds / answer_s), concurrency, tokens, Memory())
        rows = list(oracle_rows(truth)) if truth.stats() else []
        span_s = (max(row["t_last_ns"] for row in rows) - min(row["t_request_ns"] for row in rows)) / 1e9
        found[f"rate_{share}"] = sum(row["tokens"] for row in rows) / span_s
        found |= {f"lag_{share}_{k}": lag_ms(ran, k) for k in (500, 900, 990)}
    return found


def round_of_short(folder: Path, truth: Oracle, requests: int) -> Figures:
    """Processor time a short streamed request."""
    found: Figures = {}
    shape = (requests, SHORT_CONCURRENCY, SHORT_TOKENS)
    found["short_floor_us"] = floor(truth, *shape)["cpu_s"] * 1e6 / requests
    found["short_latbench_us"] = engine_cpu_s(latbench(folder, truth, *shape, Memory())) * 1e6 / requests
    if shutil.which("wrk"):
        cpu_s = wrk_cpu_s(folder, truth, SHORT_CONCURRENCY, SHORT_TOKENS)
        found["short_wrk_us"] = cpu_s * 1e6 / truth.stats()["ok"]
    return found


def round_of_starts(folder: Path, truth: Oracle) -> Figures:
    """From the launch to the first request at the oracle; and `--help`."""
    ran = latbench(folder, truth, 1, 1, 2, Memory())
    truth.stats()
    first_ns = min(row["t_request_ns"] for row in oracle_rows(truth))
    began = time.monotonic()
    subprocess.run([Path(sys.executable).with_name("latbench"), "--help"], check=True, stdout=subprocess.DEVNULL)
    return {"start_s": (first_ns - ran.began_ns) / 1e9, "help_s": time.monotonic() - began}


# --- the page ---------------------------------------------------------------------------------------------------------

Row = tuple[str, str, str, bool | None]


def cost_rows(found: Found, what: str, prefix: str, mark: float) -> list[Row]:
    """Processor time of the three, and the ratio that counts."""
    ours, base = f"{prefix}latbench_us", f"{prefix}floor_us"
    ratio = found.ratio(ours, base)
    three = {"floor": base, "engine": ours, "wrk (reads and drops)": f"{prefix}wrk_us"}
    rows: list[Row] = [
        (f"CPU per {what}: {who}", f"{found[name]:.1f} µs (least {found.least(name):.1f})", "", None)
        for who, name in three.items()
        if name in found
    ]
    of_least = found.least(ours) / found.least(base)
    said = f"{ratio:.2f} (of the least {of_least:.2f})"
    return [*rows, (f"CPU per {what}: engine / floor", said, f"{mark} at most", ratio <= mark)]


def true_rows(found: Found) -> list[Row]:
    """TTFT against what the oracle knows."""
    rows: list[Row] = []
    for name in ("p50", "p99"):
        off, mark = found[f"ttft_{name}"], MARKS[f"ttft_{name}"]
        beside = f"floor {found[f'floor_{name}']:+.2%}, oracle {found[f'oracle_{name}']:.2f} ms"
        rows.append((f"TTFT {name} against the oracle ({beside})", f"{off:+.2%}", f"{mark:.1%}", abs(off) <= mark))
    return rows


def lag_rows(found: Found) -> list[Row]:
    """The lag at each share of the maximum."""
    rows: list[Row] = []
    for share in SHARES:
        p50, p90, p99 = (found[f"lag_{share}_{k}"] for k in (500, 900, 990))
        judged = share == 0.5
        mark = f"p90 {MARKS['lag_ms']} ms" if judged else ""
        what = f"lag p50 / p90 / p99 at {share:.0%} of the maximum ({found[f'rate_{share}']:,.0f} chunks/s came)"
        holds = p90 <= MARKS["lag_ms"] if judged else None
        rows.append((what, f"{p50:.3f} / {p90:.3f} / {p99:.3f} ms", mark, holds))
    return rows


def rest_rows(found: Found) -> list[Row]:
    """Start-up, exit and memory."""
    kinds = [name for name in ("parent", "worker", "engine") if f"{name}_mb" in found]
    apart = ", ".join(f"{name} {found[f'{name}_mb']:.0f}" for name in kinds)
    named = (
        ("launch to the first request, `run --url --no-null-test`, one worker", "start_s", "s"),
        ("`latbench --help`", "help_s", "s"),
        (f"memory of all processes in B ({apart}; the most of each)", "memory_mb", "MB"),
        ("end of the last answer to exit, in B", "exit_s", "s"),
    )
    rows: list[Row] = []
    for what, name, unit in named:
        places = 0 if unit == "MB" else 2
        mark = f"{MARKS[name]:g} {unit}"
        rows.append((what, f"{found[name]:.{places}f} {unit}", mark, found[name] <= MARKS[name]))
    return rows


def page(found: Found, arguments: argparse.Namespace) -> tuple[list[str], bool]:
    """The result as a page, and whether every mark is held."""
    rows = [
        *cost_rows(found, "streamed chunk in B", "", MARKS["chunk"]),
        *cost_rows(found, "short streamed request", "short_", MARKS["request"]),
        *true_rows(found),
        *lag_rows(found),
        *rest_rows(found),
    ]
    lines = [
        "# Speed",
        "",
        made(),
        f"B is concurrency {arguments.concurrency}, {arguments.requests} requests of {arguments.tokens} tokens, oracle "
        f"`{' '.join(B)}` on a core of its own (its own lateness p99: {found['oracle_late_ms']:.2f} ms). A short "
        f"request has {SHORT_TOKENS} token, oracle `{' '.join(SHORT)}`, concurrency {SHORT_CONCURRENCY}. The maximum "
        f"is what a core could do at the processor time of a chunk in B: {found['maximum']:,.0f} chunks/s. Medians of "
        f"{arguments.repeat} rounds, ratios within a round; outcomes and token counts equal the oracle's in each.",
        *([] if "wrk_us" in found else ["", "wrk was not here (`apt-get install wrk`): its figures are left out."]),
        "",
        *table(
            ("figure", "measured", "mark", "holds"),
            [(what, measured, mark, "" if holds is None else yes(holds)) for what, measured, mark, holds in rows],
        ),
    ]
    return lines, all(row[-1] is not False for row in rows)


def measure(folder: Path, arguments: argparse.Namespace) -> Found:
    """All rounds."""
    found = Found()
    with oracle(folder, B, apart=True) as truth:
        for _ in range(arguments.repeat):
            of_b = round_of_b(folder, truth, arguments)
            found.add(of_b | round_of_lags(folder, truth, of_b["latbench_us"], arguments.tokens, arguments.seconds))
    with oracle(folder, SHORT, apart=True) as truth:
        for _ in range(arguments.repeat):
            found.add(round_of_short(folder, truth, arguments.short))
    with oracle(folder, SHORT) as truth:
        for _ in range(max(STARTS, arguments.repeat)):
            found.add(round_of_starts(folder, truth))
    return found


def main() -> None:
    """Measure, print, write the page; exit 1 where a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--short", type=int, default=5000, help="short requests")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load at each share of the maximum")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    need_oracle()
    if not shutil.which("wrk"):
        print("wrk is not here (apt-get install wrk): its figures are left out\n")
    with tempfile.TemporaryDirectory() as name:
        lines, holds = page(measure(Path(name), arguments), arguments)
    publish("speed", lines, holds=holds, write=not arguments.no_write)


if __name__ == "__main__":
    main()
