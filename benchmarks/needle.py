"""How long it takes to build a needle trial.

    make bench            # writes benchmarks/results/needle.md

Two ways: trials of one block, as `position` and `certify` send them (five depths share what is planted and the units of
filler), and each of a block of its own, as `fifty` sends them: that makes a haystack for every trial, and is told, not
judged. A build is everything: planting, checking by execution,
filler, layout, and the count of the final prompt. It happens off the engine's process, so that no request waits for it.
"""

import argparse
import statistics
import time
from collections.abc import Iterable, Iterator

from rig import made, publish, table, yes

from latbench.needle.build import Builder
from latbench.needle.grid import Grid, rounds
from latbench.needle.harvest import stdlib
from latbench.needle.haystack import Generated
from latbench.needle.trial import Control, Kind, Recipe

MARKS_MS = {10_000: 20.0, 128_000: 250.0}
KINDS = (Kind.DESCRIPTION, Kind.BUG)


def recipes(tokens: int, blocks: int, *, shared: bool) -> Iterator[Recipe]:
    """Trials of both kinds, without controls, block by block."""
    depths = (0.1, 0.3, 0.5, 0.7, 0.9) if shared else ()
    grid = Grid(kinds=KINDS, lengths=(tokens,), blocks=blocks if shared else 5 * blocks, depths=depths, absent=0)
    found = [recipe for one in rounds(grid, "bench") for recipe in one.recipes if recipe.control == Control.NONE]
    yield from sorted(found, key=lambda recipe: recipe.block)


def timed(builder: Builder, todo: Iterable[Recipe]) -> list[float]:
    """Milliseconds of each build."""
    found = []
    for recipe in todo:
        start = time.perf_counter()
        builder.build(recipe)
        found.append((time.perf_counter() - start) * 1e3)
    return found


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=6, help="blocks of each kind")
    parser.add_argument("--dry", action="store_true", help="print only")
    arguments = parser.parse_args()
    rows, holds = [], True
    for name, haystack in (("generated", Generated()), ("standard library", stdlib())):
        builder = Builder(haystack)
        timed(builder, recipes(4_000, 1, shared=True))  # loads the tokenizer
        for tokens, mark in MARKS_MS.items():
            for shared in (True, False):
                taken = sorted(timed(builder, recipes(tokens, arguments.blocks, shared=shared)))
                median = statistics.median(taken)
                holds &= median < mark or not shared
                verdict = yes(median < mark) if shared or median < mark else "above, and told"
                what = "five of a block" if shared else "each its own block"
                tail = taken[min(len(taken) - 1, int(0.95 * len(taken)))]
                figures = (f"{median:.1f} ms", f"{tail:.1f} ms", f"{mark:.0f} ms")
                rows.append((f"{name}, {tokens // 1000}K tokens, {what}", str(len(taken)), *figures, verdict))
    head = ("haystack", "trials", "median", "p95", "mark for the median", "holds")
    lines = ["# Building a needle trial", "", made(), "", *table(head, rows)]
    publish("needle", lines, holds=holds, write=not arguments.dry)


if __name__ == "__main__":
    main()
