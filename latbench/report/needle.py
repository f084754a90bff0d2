"""What needle trials say, as a table and lines: accuracy with its interval by depth, beside the latency of the same."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from latbench.report import figures

HEAD = ("depth", "right", "accuracy (95 %)", "TTFT p50", "p95", "total p50", "p95")
_AT_LEAST = "\N{GREATER-THAN OR EQUAL TO}"
_SAME_LENGTH = 0.02
UNITS = "right: of the trials with a complete answer; TTFT and total in ms, of every trial that was answered in time"


def resumes(run: Mapping[str, Any]) -> str:
    """What is to be known of a run that went on with the trials of another; empty for any other run."""
    earlier = run.get("resumes")
    return f"goes on with run {earlier}: needle figures are of both, all others of this run alone" if earlier else ""


def blocks(name: str, summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The needle block of an endpoint in each step that sent it trials, with the step where there are several."""
    steps = summary["steps"]
    for step in steps:
        found = step["endpoints"].get(name, {}).get("needle")
        if found is not None:
            yield f", step {step['index']}" if len(steps) > 1 else "", found


def tables(found: Mapping[str, Any], step: str = "") -> Iterator[tuple[str, list[list[str]]]]:
    """For each kind and length a title, and rows under `HEAD`: the parts of the file, then all of it."""
    for one in found["lengths"]:
        parts = [_row(f"{cell['from'] * 100:.0f}\N{EN DASH}{cell['to'] * 100:.0f} %", cell) for cell in one["depths"]]
        yield f"needle: {one['kind']} at {tokens(one['length'])} tokens{step}", [*parts, _row("all", one)]


def _row(name: str, one: Mapping[str, Any]) -> list[str]:
    ends = one["ci95"]
    around = "" if ends is None else f" ({ends[0] * 100:.0f}\N{EN DASH}{ends[1] * 100:.0f})"
    return [
        name,
        f"{one['correct']}/{one['answered']}",
        percent(one["accuracy"]) + around,
        *(figures.percentile(one[metric], at) for metric in ("ttft_ms", "e2e_ms") for at in ("p50", "p95")),
    ]


def percent(value: float | None) -> str:
    """A share of trials, which are few: one decimal, where there is one."""
    return figures.MISSING if value is None else f"{round(value * 100, 1):g} %"


def tokens(count: int) -> str:
    """A length as people name it: `10k`."""
    return f"{count // 1000}k" if count % 1000 == 0 else f"{count:,}"


def lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A word or two, and a line: position first, then what qualifies the figures."""
    several = len(found["lengths"]) > 1
    for one in found["lengths"]:
        where = f" of {one['kind']} at {tokens(one['length'])}" if several else ""
        yield f"by depth{where}", one["position"]["verdict"]
        yield from _of_length(one, where)
    for one in found["effective_context"]:
        yield f"effective context, {one['kind']}", _context(one)
    counted = found["counted"]
    if counted["scale"] is not None and abs(counted["of_length"] - 1) > _SAME_LENGTH:
        scale = f"{counted['scale']:.3g}"
        yield (
            "lengths",
            f"in o200k_base, of which the endpoint counts {scale} for each; `--scale {scale}` has them in its own",
        )
    yield from _controls(found)


def _of_length(one: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    mix = {name: count for name, count in one["outcomes"].items() if name != "correct"}
    if mix:
        yield f"not right{where}", ", ".join(f"{name} {count}" for name, count in mix.items())
    if one["incomplete"]:
        yield (
            f"incomplete{where}",
            f"{one['missing']} of {one['planned']} trials have no answer: accuracy is between {percent(one['worst'])}"
            f" and {percent(one['best'])} whatever they would have been",
        )
    if one["answered"] and one["chance"] and one["at_chance"]:
        yield f"chance{where}", f"guessing reaches {percent(one['chance'])}: no more than that was shown"
    detail = one["detail"]
    if detail["lines"] is not None:
        yield f"the line too{where}", f"{detail['lines']} of {detail['of']} answers give it rightly"
    if detail["f1"] is not None:
        yield f"sets{where}", f"F1 {detail['f1']:.2f} on average"
    if one["unread"]:
        yield (
            f"answered unread{where}",
            f"{one['unread']} answers came sooner than the prompt can be read, out of a cache of answers; their TTFT"
            " does not count",
        )
    if one["untimed"]:
        yield (
            f"without TTFT{where}",
            f"{one['untimed']} of {one['planned']} trials, retried, of the warm-up, or cached in part: neither"
            " TTFT nor total of them counts",
        )
    head, tail = one["reliable"]["head_tokens"], one["reliable"]["tail_tokens"]
    if head < one["length"] and (head or tail) and one["reliable"]["least_trials"] >= one["reliable"]["needed"]:
        yield f"read reliably{where}", f"the first {head:,} and the last {tail:,} tokens"


def _context(one: Mapping[str, Any]) -> str:
    parts = [
        f"certified {_walk(one['certified'])}",
        f"point {_walk(one['point'])}",
        f"in every depth {_everywhere(one)}",
    ]
    if one["relative"] is not None:
        parts.append(f"relative {_walk(one['relative'])}")
    refused = "" if one["refused"] is None else f"; the endpoint refused {tokens(one['refused'])}"
    tested = f"tested {', '.join(map(tokens, one['lengths']))}"
    return f"{', '.join(parts)} (at {one['threshold'] * 100:.0f} %; {tested}{refused})"


def _everywhere(one: Mapping[str, Any]) -> str:
    if one["trials_in_a_stratum"] < one["needed"]:
        return f"unknown (of {one['needed']} trials in each that it takes, there are {one['trials_in_a_stratum']})"
    return _walk(one["worst_stratum"])


def _walk(found: Mapping[str, Any]) -> str:
    if found["tokens"] is None:
        said = "at no tested length"
    else:
        said = f"{_AT_LEAST if found['open_ended'] else ''}{tokens(found['tokens'])}"
    later = f" (again at {', '.join(map(tokens, found['later']))})" if found["later"] else ""
    return said + later


def _controls(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    controls = found["controls"]
    absent = controls["absent"]
    if absent is not None and absent["answered"]:
        alarm = ": it answers regardless" if absent["answers_regardless"] else ""
        yield "absent controls", f"{absent['present']} of {absent['answered']} named something{alarm}"
    for one in controls["base"]:
        alarm = ": too hard without any filler, ability more than retrieval" if one["too_hard"] else ""
        yield f"without filler, {one['kind']}", f"{one['correct']}/{one['answered']} right{alarm}"
    book = controls["closed_book"]
    if book is not None:
        alarm = ": known beforehand, or leaked" if book["known"] else ""
        yield "without the code", f"{book['right']} of {book['answered']} right{alarm}"
    for one in found["truncation"]:
        if one["cut"] is not None:
            yield f"prompts cut at {tokens(one['length'])}", _cut(one)
        elif one["short"]:
            yield f"counted short at {tokens(one['length'])}", f"{one['short']} of {one['counted']} prompts"
    timing = found["ttft_against_depth"]
    if timing["tripped"]:
        why = "a cached prefix, it seems" if timing["cached_prefix"] else "caching, or the order of sending"
        yield (
            "TTFT against depth",
            (
                f"{timing['change'] * 100:+.0f} % from the first line to the last (p {timing['p']:.3f}): {why};"
                " its latency is not to be believed"
            ),
        )
    elif timing["p"] is not None:
        yield "TTFT against depth", f"flat, as it should be (p {timing['p']:.3f})"
    if found["degenerate"] is not None:
        yield "degenerate", f"nearly every answer is {found['degenerate']}: the questions were not answered"


def pairs(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Models against each other on the same trials: which two at what, and a line."""
    steps = summary["steps"]
    for step in steps:
        of_step = f", step {step['index']}" if len(steps) > 1 else ""
        for one in step.get("needle_pairs") or ():
            first, second = one["first"], one["second"]
            yield (
                f"{first} against {second}, {one['kind']}{of_step}",
                f"of {figures.count(one['pairs'])} trials that both answered, {first} alone was right in"
                f" {one['only_first']}, {second} alone in {one['only_second']}; {_better(one)}",
            )


def _better(one: Mapping[str, Any]) -> str:
    if one["p"] is None:
        return "nothing tells them apart"
    p = "p < 0.001" if one["p"] < 0.001 else f"p {one['p']:.3f}"
    said = "no difference shown" if one["better"] is None else f"{one['better']} finds more"
    return f"{said} ({' to '.join(map(str, one['blocks']))} blocks, {p} after Holm)"


def _cut(one: Mapping[str, Any]) -> str:
    share = "" if one["read_share"] is None else f", {percent(one['read_share'])} of it was read"
    end = "a part" if one["cut"] == "unknown" else f"the {one['cut']}"
    return f"{end} is missing{share}; nothing is said of position"


def shown_slices(kinds: Sequence[str], endpoint: Mapping[str, Any]) -> tuple[str, ...]:
    """The slices that say something: all needle trials have the same task and language."""
    return tuple(kind for kind in kinds if endpoint["needle"] is None or kind not in ("task", "language"))
