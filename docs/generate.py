"""Writes the pages that are made from the source: docs/cli.md from the commands, docs/metrics.md from the catalogue,
docs/providers.md from the registry of APIs, docs/series.md from the declared series.

`python docs/generate.py` writes them; with `--check` it writes nothing and exits 1 where one is out of date.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from latbench.analysis.stats import NEED
from latbench.cli.main import cli
from latbench.metrics.catalogue import FIGURES, METRICS, Figure, Metric
from latbench.metrics.series import GROUPS, Series
from latbench.model.request import Ask, Endpoint, Fill, Message
from latbench.providers.base import Dialect, Framer
from latbench.providers.gemini import GeminiFramer
from latbench.providers.registry import DIALECTS
from latbench.simulated import BASE_PATHS
from latbench.wire.eventstream import EventStreamFramer
from latbench.wire.ndjson import NdjsonFramer
from latbench.wire.sse import SseFramer

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
            ("name", "in `summary.json`", "unit", "better", "meaning", "formula", "defined for"),
            [_metric_row(metric) for metric in METRICS],
        ),
        "",
        "For a rate, higher is better, and its slow tail is p1, p5 and p10: that is the tail the reports show.",
        "",
        "## Figures of a step",
        "",
        "`lead` in a scenario may also name these; they then head the endpoint's block in the reports and are in its "
        "`lead` in `summary.json`. The measured window: [measurement.md](measurement.md#throughput).",
        "",
        *_table(
            ("name", "in an endpoint's block", "unit", "better", "meaning", "formula"),
            [_figure_row(figure) for figure in FIGURES],
        ),
        "",
        "## Percentiles",
        "",
        "A percentile is an observed value, the one of rank ceil(n·k), never an interpolation or an average of other "
        "percentiles. With fewer independent values than the table says it is null in `summary.json`, where `need` "
        "then holds `[values needed, what those there count for]`, and `n/a ≥N` in the reports. `ci95` has the 95 % "
        "interval of each, `n_eff` what the values count for: [statistics.md](statistics.md).",
        "",
        *_table(("percentile", "values needed"), [(name, str(need)) for name, need in NEED.items()]),
        "",
        "Metrics of requests are order statistics of the values themselves. Only `inter_chunk`, one value for each gap "
        "between chunks, comes from a histogram of 3 significant digits, and has no interval. `raw` in "
        "`summary.json` holds plain order statistics whatever their number: for programs that check latbench, not for "
        "reading.",
    ]
    return "\n".join(lines) + "\n"


def _metric_row(metric: Metric) -> tuple[str, ...]:
    """One metric, in the order of the table's head."""
    name, key = f"`{metric.name}`", f"`{metric.json_name}`"
    return (name, key, metric.unit, _better(metric), metric.definition, f"`{metric.formula}`", metric.needs)


def _figure_row(figure: Figure) -> tuple[str, ...]:
    where = f"`{figure.where}`"
    return (f"`{figure.name}`", where, figure.unit, _better(figure), figure.definition, f"`{figure.formula}`")


def _better(of: Metric | Figure) -> str:
    return "higher" if of.higher_is_better else "lower"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


# --- APIs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class About:
    """What the registry does not know of an API: where it is, how its key is usually called, what to know of it."""

    base_url: str
    variable: str
    notes: str


FRAMINGS: dict[type[Framer], str] = {
    SseFramer: "server-sent events",
    GeminiFramer: "server-sent events; errors also raw between them",
    NdjsonFramer: "lines of JSON",
    EventStreamFramer: "AWS event stream, binary, with checksums",
}

ABOUT = {
    "openai-chat": About(
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        "The sign of completion is a finish reason or `[DONE]`. Token counts are asked for with "
        "`stream_options.include_usage`; `usage: off` leaves that out for servers that refuse it. The limit is "
        "`max_completion_tokens` for OpenAI's reasoning models, else `max_tokens` (`max_tokens_field`).",
    ),
    "openai-completions": About(
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        "The older API, which many servers keep for models that complete code. A conversation is sent as the texts of "
        "its messages, a blank line between them. There is no reasoning, no tool and no schema.",
    ),
    "openai-responses": About(
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        "The sign of completion is `response.completed` or `response.incomplete`. Searches, images and the like are "
        "skipped: they are not output.",
    ),
    "azure-openai": About(
        "https://NAME.openai.azure.com",
        "AZURE_OPENAI_API_KEY",
        "The dated API; `model` is the deployment's name. Azure's v1 API is `openai-chat` (see below). A token of "
        "Entra goes into `headers` instead of a key. The default filter hands output out in blocks, so that the gaps "
        "between chunks are the filter's.",
    ),
    "anthropic": About(
        "https://api.anthropic.com/v1",
        "ANTHROPIC_API_KEY",
        "The sign of completion is `message_stop`. Input includes what was written to and read from the cache. "
        "Unconfirmed: whether gateways send errors without a type; such are read as errors, too.",
    ),
    "gemini": About(
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY",
        "The sign of completion is a finish reason, or a prompt that is blocked. Output includes thoughts. Vertex "
        "wants an OAuth token in `headers`. No header tells a limit or a wait: both are read from the error. "
        "Unconfirmed: whether usage comes on every chunk; the last one counts.",
    ),
    "mistral": About(
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        "As `openai-chat`, with usage unasked, thinking as parts of the content, and a path for filling gaps. "
        "Unconfirmed: which rate-limit headers it sends.",
    ),
    "cohere": About(
        "https://api.cohere.com/v2",
        "CO_API_KEY",
        "The sign of completion is `message-end`. Tokens are those that the model saw; what is billed may be fewer. "
        "Unconfirmed: whether input includes cached tokens, and which errors come inside a stream.",
    ),
    "bedrock": About(
        "https://bedrock-runtime.REGION.amazonaws.com",
        "AWS_BEARER_TOKEN_BEDROCK",
        "ConverseStream, for every model that has it. With `api_key_env` a Bedrock API key is sent; without, requests "
        "are signed, for which `pip install 'latbench[bedrock]'` brings botocore, and the credentials are found as "
        "every AWS tool finds them. `json_schema` works with some models only; a forced tool with all that have tools. "
        "Reasoning is not counted apart. Unconfirmed: that input leaves out cached tokens (they are added).",
    ),
    "ollama": About(
        "http://localhost:11434",
        "OLLAMA_API_KEY",
        "The sign of completion is `done: true`. Only a schema is enforced: tools can be offered, not demanded. "
        "Loading a model is part of TTFT. Only its cloud wants a key. Unconfirmed: whether output includes thinking.",
    ),
}

# Servers that speak openai-chat: base_url, what is particular, recorded streams.
SERVERS = (
    ("vLLM", "http://HOST:8000/v1", "reasoning in `reasoning`; errors inside a stream, then `[DONE]`", "vllm"),
    ("SGLang", "http://HOST:30000/v1", "reasoning tokens beside the usage's details", "sglang"),
    ("llama.cpp", "http://HOST:8080/v1", "comments as keep-alive", "llama-cpp"),
    ("Transformers", "http://HOST:8000/v1", "a first chunk with only the role", "transformers"),
    ("Ollama's OpenAI route", "http://HOST:11434/v1", "reasoning in `reasoning`", "ollama"),
    (
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        "`: OPENROUTER PROCESSING` while it waits; the upstream's errors inside a stream",
        "openrouter",
    ),
    (
        "LiteLLM",
        "http://HOST:4000/v1",
        "its own limits and those of its upstream (`llm_provider-…` headers)",
        "litellm-rate-limit",
    ),
    ("Azure OpenAI, v1", "https://NAME.openai.azure.com/openai/v1", "a first chunk without choices; filters", "azure"),
    ("Groq", "https://api.groq.com/openai/v1", "usage in `x_groq`; requests are limited by the day", "groq"),
    ("DeepSeek", "https://api.deepseek.com/v1", "`: keep-alive` while it waits; cached tokens by a name", "deepseek"),
    ("TGI", "http://HOST:8080/v1", "429 when it is full: counted as a limit of concurrency", ""),
)


def providers_page() -> str:
    """Every API: where its requests go, what it can do, what is not confirmed of it."""
    lines = [
        "# APIs and providers",
        "",
        MADE_BY,
        "",
        "`api` in a scenario, and `--api`, name one of these. To `base_url` the path is appended as it stands here. A "
        "key is the value of the environment variable that `api_key_env` names; what is in the last column is how its "
        "provider calls it, and any other name will do. `headers` of an endpoint beat those of the API.",
        "",
        *_table(
            ("api", "`base_url`", "path", "key goes into", "usual variable"),
            [_place(dialect) for dialect in DIALECTS.values()],
        ),
        "",
        "`latbench sim` has all of them, too: at its address "
        + ", ".join(f"with `{path}` behind it for `{api}`" for api, path in BASE_PATHS.items() if path)
        + ", without anything behind it for "
        + ", ".join(f"`{api}`" for api, path in BASE_PATHS.items() if not path)
        + ", with `/v1` for the others. `base_url: sim` finds them by itself. There, too, `bedrock` without an "
        "`api_key_env` signs its requests; a variable with any value will do.",
        "",
        "Output modes are those that the API enforces; `text` and `prompted` work with every API "
        "([scenario.md](scenario.md#output-modes)). A prompt with a gap is asked for in words where gaps are not "
        "filled. What tool loops are: [scenario.md](scenario.md#tool-loops).",
        "",
        *_table(
            ("api", "a stream is", "enforces", "fills gaps", "tool loops", "fields that `body` may not set"),
            [_abilities(dialect) for dialect in DIALECTS.values()],
        ),
        "",
        "## What to know",
        "",
        "Whatever the API counts, input includes cached tokens and output includes reasoning. What is unconfirmed "
        "could be seen neither in an official SDK nor in the documentation when this was written.",
        "",
        *(f"- `{api}`: {ABOUT[api].notes}" for api in DIALECTS),
        "",
        "## Servers that speak `openai-chat`",
        "",
        "One decoder reads them all; the streams that it is tested with are written after their source, their "
        "documentation or captured traffic. Of TGI no stream is kept: its chat route has no habit of its own.",
        "",
        *_table(
            ("server", "`base_url`", "what is particular", "stream"),
            [
                (name, f"`{url}`", what, f"`tests/streams/openai-chat/{stream}.sse`" if stream else "none")
                for name, url, what, stream in SERVERS
            ],
        ),
        "",
        "A new API: [adding-a-provider.md](adding-a-provider.md). What a refusal is taken for: "
        "[rate-limits.md](rate-limits.md).",
    ]
    return "\n".join(lines) + "\n"


def _place(dialect: Dialect) -> tuple[str, ...]:
    about = ABOUT[dialect.api]
    streamed, plain = (dialect.build(_endpoint(dialect.api, stream), _ASK).path for stream in (True, False))
    paths = [f"`{streamed}`"]
    if plain != streamed:
        paths.append(f"not streamed `{plain}`")
    if dialect.fills:
        filled = dialect.build(_endpoint(dialect.api, True), Ask(_ASK.messages, 1, fill=Fill("a", "b"))).path
        paths += [f"a gap `{filled}`"] if filled != streamed else []
    ((header, value),) = dialect.auth("KEY").items()
    return (f"`{dialect.api}`", f"`{about.base_url}`", ", ".join(paths), f"`{header}: {value}`", f"`{about.variable}`")


_ASK = Ask((Message("user", "x"),), 1)


def _endpoint(api: str, stream: bool) -> Endpoint:
    return Endpoint("e", "p", api, ABOUT[api].base_url, "MODEL", stream=stream)


def _abilities(dialect: Dialect) -> tuple[str, ...]:
    return (
        f"`{dialect.api}`",
        FRAMINGS[type(dialect.framer())],
        ", ".join(f"`{mode}`" for mode in sorted(dialect.modes)) or "none",
        "yes" if dialect.fills else "no",
        "yes" if dialect.tools else "no",
        ", ".join(f"`{field}`" for field in sorted(dialect.own)),
    )


# --- series -----------------------------------------------------------------------------------------------------------


def series_page() -> str:
    """Every series that is published, and the bounds of the distributions."""
    lines = [
        "# Series",
        "",
        MADE_BY,
        "",
        "What latbench publishes for Prometheus, by scrape, push or from the store: [prometheus.md](prometheus.md). A "
        "series of which nothing is known is absent. A histogram is published as `_bucket` (by `le`), `_sum` and "
        "`_count`; by remote write also under its bare name, as a native histogram.",
    ]
    bounds: dict[str, list[str]] = {}
    for heading, group in GROUPS.items():
        rows = [_series_row(one) for one in group]
        lines += ["", f"## {heading}", "", *_table(("series", "kind", "meaning", "labels"), rows)]
        for one in group:
            if one.bounds is not None:
                bounds.setdefault(" ".join(f"{bound:.10g}" for bound in one.bounds.upper), []).append(f"`{one.name}`")
    rows = [(", ".join(names), upper) for upper, names in bounds.items()]
    return "\n".join([*lines, "", "## Bounds", "", *_table(("series", "bounds"), rows)]) + "\n"


def _series_row(one: Series) -> tuple[str, ...]:
    return (f"`{one.name}`", one.kind, one.help, ", ".join(f"`{label}`" for label in one.labels))


PAGES = {
    "cli.md": cli_page,
    "metrics.md": metrics_page,
    "providers.md": providers_page,
    "series.md": series_page,
}


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
