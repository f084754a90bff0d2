"""Writes the pages that are made from the source: docs/cli.md from the commands, docs/metrics.md from the catalogue.

`python docs/generate.py` writes them; with `--check` it writes nothing and exits 1 where one is out of date.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from latbench.analysis.stats import NEED
from latbench.cli.main import cli
from latbench.metrics.catalogue import FIGURES, METRICS, Metric

DOCS = Path(__file__).parent
MADE_BY = "<!-- Made by `make docs`: do not edit. -->"


def cli_page() -> str:
    """Every verb with its arguments, options and help."""
    context = click.Context(cli, info_name="latbench")
    lines = [
        "# Command line",
        "",
        MADE_BY,
        "",
        "Results go to standard output, everything else to standard error. An option can also be given by an "
        "environment variable named after its verb and itself, `LATBENCH_RUN_MAX_TOKENS` for the `--max-tokens` of "
        "`latbench run`. A flag beats a variable, a variable beats the scenario file.",
        "",
        "Completion in the shell: put what `_LATBENCH_COMPLETE=bash_source latbench` prints (or `zsh_source`, "
        "`fish_source`) into the shell's start-up file.",
    ]
    for command in _commands(cli, context):
        lines += ["", *_section(*command)]
    return "\n".join(lines) + "\n"


def _commands(group: click.Group, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """The verbs of a group, those of a group in it after it."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        yield command, inner
        if isinstance(command, click.Group):
            yield from _commands(command, inner)


def _section(command: click.Command, context: click.Context) -> list[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## {context.command_path}", "", f"    {usage}", "", *_paragraphs(command.help or "")]
    records = (option.get_help_record(context) for option in command.params if isinstance(option, click.Option))
    options = [_option(*record) for record in records if record is not None]  # None: a hidden one
    return [*lines, "", *options] if options else lines


def _option(names: str, meaning: str) -> str:
    return f"- `{names.replace(' RANGE', '')}`: {' '.join(meaning.split())}"


def _paragraphs(text: str) -> list[str]:
    """A command's help as Markdown: one line for each paragraph, nothing in it taken as HTML."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return "\n\n".join(paragraphs).replace("<", "&lt;").replace(" * ", " \\* ").split("\n")


def metrics_page() -> str:
    """Every metric and what a percentile needs."""
    lines = [
        "# Metrics",
        "",
        MADE_BY,
        "",
        "Every metric is computed from the stamps of one `ok` request; other outcomes are counted and enter no metric. "
        "How and where the stamps are taken: [measurement.md](measurement.md). `n` is the number of output tokens. "
        "Names without a suffix are service time, from `sent`; `_response` is the same from `due`, which equals it in "
        "a closed loop.",
        "",
        *_table(
            ("name", "in `summary.json`", "unit", "meaning", "formula", "defined for"),
            [_metric_row(metric) for metric in METRICS],
        ),
        "",
        "For a rate, higher is better, and its slow tail is p1, p5 and p10: that is the tail the reports show.",
        "",
        "## Figures of a whole run",
        "",
        "`lead` in a scenario may also name these; they head the endpoint's block in the reports and are `lead` in "
        "`summary.json`.",
        "",
        *_table(
            ("name", "unit", "meaning"),
            [(f"`{figure.name}`", figure.unit, figure.definition) for figure in FIGURES],
        ),
        "",
        "## Percentiles",
        "",
        "A percentile is an observed value, the one of rank ceil(n·k), never an interpolation or an average of other "
        "percentiles. With fewer values than the table says it is null in `summary.json`, where `need` then holds "
        "`[values needed, values there]`, and `n/a ≥N` in the reports.",
        "",
        *_table(("percentile", "values needed"), [(name, str(need)) for name, need in NEED.items()]),
        "",
        "Metrics of requests are order statistics of the values themselves. Only `inter_chunk`, one value for each gap "
        "between chunks, comes from a histogram of 3 significant digits. `raw` in `summary.json` holds plain order "
        "statistics whatever their number: for programs that check latbench, not for reading.",
    ]
    return "\n".join(lines) + "\n"


def _metric_row(metric: Metric) -> tuple[str, ...]:
    """One metric, in the order of the table's head."""
    name, key = f"`{metric.name}`", f"`{metric.json_name}`"
    return (name, key, metric.unit, metric.definition, f"`{metric.formula}`", metric.needs)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


PAGES = {"cli.md": cli_page, "metrics.md": metrics_page}


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where a page is out of date.")
def main(check: bool) -> None:
    """Write the generated pages."""
    stale = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        raise click.ClickException(f"out of date: {', '.join(f'docs/{name}' for name in stale)}; run `make docs`")


if __name__ == "__main__":
    main()
