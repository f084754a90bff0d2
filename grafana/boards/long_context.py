"""The board of needle trials."""

from panels import SCOPE, Board, Panel


def _latest(series: str, by: str, more: str = "", how: str = "max") -> str:
    """What the latest needle run said, however long ago: such runs are rare, and other runs say nothing of needles."""
    return f"{how} by ({by}) (last_over_time(latbench_needle_{series}{{{SCOPE}{more}}}[$__range]))"


def _context(rule: str) -> str:
    return _latest("effective_context_tokens", "endpoint, kind", f', rule="{rule}"')


def _of_depth(series: str, depth: str, by: str = "endpoint, kind, length") -> str:
    return _latest(series, by, f", depth{depth}")


LONG_CONTEXT = Board(
    "latbench-long-context",
    "latbench: long context",
    "What is found in long code, how sure that is, and where it is not. Known when a needle run has ended.",
    (
        (
            "How much can be relied on?",
            (
                Panel(
                    "Effective context, certified",
                    "The longest prompt up to which the lower bound of accuracy is above the threshold at every tested "
                    "length. 0: at none of them; it may be that there were too few trials.",
                    "none",
                    [(_context("certified"), "{{endpoint}} {{kind}}")],
                    "bars",
                ),
                Panel(
                    "Effective context by other rules",
                    "Point: by the accuracy that was measured, however few trials that is. Worst stratum: certified "
                    "wherever in the file the needle stands. Relative: against the model's own without filler.",
                    "none",
                    [
                        (_context("point"), "{{endpoint}} {{kind}} point"),
                        (_context("worst_stratum"), "{{endpoint}} {{kind}} worst stratum"),
                        (_context("relative"), "{{endpoint}} {{kind}} relative"),
                    ],
                    "bars",
                ),
            ),
        ),
        (
            "Accuracy",
            (
                Panel(
                    "Accuracy by length",
                    "Right answers of those that were given, over all depths, with what they prove at least and leave "
                    "possible at most (one-sided 95 %).",
                    "percentunit",
                    [
                        (_of_depth("accuracy_ratio", '="all"'), "{{endpoint}} {{kind}} {{length}}"),
                        (_of_depth("accuracy_lower_ratio", '="all"'), "{{endpoint}} {{kind}} {{length}} at least"),
                        (_of_depth("accuracy_upper_ratio", '="all"'), "{{endpoint}} {{kind}} {{length}} at most"),
                    ],
                    "bars",
                ),
                Panel(
                    "Accuracy by depth: at least",
                    "What the answers prove for each part of the code, by its ends in per cent. Differences between "
                    "parts are chance until the report calls them a dip or a trend.",
                    "percentunit",
                    [
                        (
                            _of_depth("accuracy_lower_ratio", '!="all"', "endpoint, kind, length, depth"),
                            "{{endpoint}} {{kind}} {{length}}, {{depth}} %",
                        )
                    ],
                    "bars",
                ),
                Panel(
                    "Accuracy over time",
                    "At the end of each run, over all depths.",
                    "percentunit",
                    [
                        (
                            f'max by (endpoint, kind, length) (latbench_needle_accuracy_ratio{{{SCOPE}, depth="all"}})',
                            "{{endpoint}} {{kind}} {{length}}",
                        )
                    ],
                ),
                Panel(
                    "Accuracy by depth: measured",
                    "The share itself. What it rests on is in the panel beside and in the run's heat maps.",
                    "percentunit",
                    [
                        (
                            _of_depth("accuracy_ratio", '!="all"', "endpoint, kind, length, depth"),
                            "{{endpoint}} {{kind}} {{length}}, {{depth}} %",
                        )
                    ],
                    "bars",
                ),
            ),
        ),
        (
            "Time",
            (
                Panel(
                    "TTFT by length",
                    "Of the trials over all depths: the mean, and p50 and p95 where there were enough of them.",
                    "s",
                    [
                        (
                            _of_depth("ttft_seconds", '="all"', "endpoint, kind, length, type"),
                            "{{endpoint}} {{kind}} {{length}} {{type}}",
                        )
                    ],
                    "bars",
                ),
                Panel(
                    "TTFT by depth",
                    "The mean by the part of the code that the needle stands in. It should not matter; where it does, "
                    "a cache may have been at work.",
                    "s",
                    [
                        (
                            _of_depth("ttft_seconds", '!="all", type="mean"', "endpoint, kind, length, depth"),
                            "{{endpoint}} {{kind}} {{length}}, {{depth}} %",
                        )
                    ],
                    "bars",
                ),
            ),
        ),
        (
            "What went wrong",
            (
                Panel(
                    "Trials by outcome", "All that ask for something that is there.", "short",
                    [(_latest("trials_total", "outcome", how="sum"), "{{outcome}}")], "bars",
                ),
                Panel(
                    "Trials by outcome and depth", "Where the trials ended how.", "short",
                    [
                        (
                            _latest("trials_total", "depth, outcome", how="sum"),
                            "{{depth}} % {{outcome}}",
                        )
                    ],
                    "bars",
                ),
            ),
        ),
    ),
    since="now-30d",
    refresh="1m",
)  # fmt: skip
