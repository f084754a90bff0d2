"""What does being watched cost? Ten thousand streams at once, scraped every second.

    make bench            # one run; writes benchmarks/results/scrape.md

The load is that of streams.py. A scrape is answered by a thread that ends with it: what ended threads of the parent
have used is the process's CPU time without that of the threads that live. That is taken from the scrape on that first
sees the run: while a run is prepared another thread ends, too, with more than all scrapes together. Counting a
sample happens in the thread that commits it, and is timed afterwards, on the samples of the run. Together they are held
against the time of the load.
"""

import argparse
import os
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from rig import Ran, made, need_oracle, oracle, prompts, publish, run, table, yes
from streams import ANSWER, FILES_BESIDES, TOKENS, most_files

from latbench.metrics.meters import Meters
from latbench.store.sqlite import Store

MOST = 0.02
RUNNING = b"latbench_run_running"
_TICKS = os.sysconf("SC_CLK_TCK")


class Scraper:
    """Scrapes when it is looked at: how long an answer took, how large it was, what answering has used so far."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.took_s: list[float] = []
        self.bytes = 0
        self.used_s = 0.0
        self.of_the_run = 0
        self._before_s: float | None = None

    def __call__(self, parent: int, _store: Path) -> None:
        """A scrape; none where nobody listens yet or any more."""
        began = time.monotonic()
        with suppress(OSError):
            with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                body = answer.read()
            self.bytes = len(body)
            self.took_s.append(time.monotonic() - began)
            used_s = _used_by_the_ended(parent)
            if self._before_s is not None:
                self.used_s = used_s - self._before_s
                self.of_the_run += 1
            elif RUNNING in body:
                self._before_s = used_s


def _used_by_the_ended(pid: int) -> float:
    """CPU seconds of the threads of a process that have ended."""
    living = sum(_cpu_s(path / "stat") for path in Path(f"/proc/{pid}/task").iterdir())
    return max(0.0, _cpu_s(Path(f"/proc/{pid}/stat")) - living)


def _cpu_s(path: Path) -> float:
    try:
        fields = path.read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0  # it has just ended
    return (int(fields[11]) + int(fields[12])) / _TICKS


def counting_s(ran: Ran) -> float:
    """CPU time for handing the samples of the run over to be counted; the rest is part of a scrape."""
    with Store(ran.store, must_exist=True) as store:
        record = store.load_run("latest")
        samples = list(store.samples(record.id))
        tasks = {prompt.id: prompt.task for prompt in store.prompts(record.id)}
    meters = Meters(record, tasks, set(tasks.values()))
    began = time.process_time()
    for at in range(0, len(samples), 250):
        meters.add(samples[at : at + 250])
    return time.process_time() - began


def main() -> None:
    """Run, print, write the page; exit 1 where the mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    need_oracle()
    streams = min(arguments.streams, most_files() - FILES_BESIDES)
    scraper = Scraper()
    with tempfile.TemporaryDirectory() as name, oracle(Path(name), ANSWER) as truth:
        flags = ["--url", f"{truth.url}/v1", "--model", "oracle", "--prompts", str(prompts(Path(name)))]
        flags += ["--requests", str(streams), "--concurrency", str(streams), "--max-tokens", str(TOKENS)]
        flags += ["--metrics-addr", str(scraper.port), "--metrics-keep", "0s"]
        ran = run(Path(name), ["quickstart", *flags], scraper)
        counted_s = counting_s(ran)
        (step,) = ran.record["steps"]
    load_s = (step["measure_to_ns"] - step["started_ns"]) / 1e9
    scraped = scraper.used_s / scraper.of_the_run  # a second each
    share = scraped + counted_s / load_s
    rows = [
        (
            "requests, ok",
            f"{ran.endpoint['outcomes']['ok']}",
            f"{streams}",
            yes(ran.endpoint["outcomes"]["ok"] == streams),
        ),
        ("the load", f"{load_s:.1f} s", "", ""),
        ("scrapes, one a second", f"{len(scraper.took_s)}", "", ""),
        ("of them after the first of the run", f"{scraper.of_the_run}", "", ""),
        ("an answer, the last one", f"{scraper.bytes / 1000:.0f} kB", "", ""),
        ("an answer, longest", f"{max(scraper.took_s) * 1000:.0f} ms", "1000 ms", yes(max(scraper.took_s) < 1.0)),
        ("answering, CPU of a scrape", f"{scraped * 1000:.1f} ms", "", ""),
        ("counting, CPU of a request", f"{counted_s / streams * 1e6:.1f} us", "", ""),
        ("both, share of a core", f"{share:.2%}", f"{MOST:.0%}", yes(share < MOST)),
    ]
    lines = [
        "# What being scraped costs",
        "",
        made(),
        f"{streams} streams at once, {TOKENS} tokens each, oracle `{' '.join(ANSWER)}`, one worker; a scrape a second "
        "from the start of the command to its end.",
        "",
        *table(("figure", "measured", "mark", "holds"), rows),
    ]
    publish("scrape", lines, holds=all(row[-1] != "NO" for row in rows), write=not arguments.no_write)


if __name__ == "__main__":
    main()
