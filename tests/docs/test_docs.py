"""The documents against what they describe: names, links, commands, examples, and the README's demo.

A fenced block is preceded by a marker where more than its look is checked: `<!-- run: endpoint -->` is executed against
a simulated endpoint in place of https://host/v1, `<!-- file: NAME -->` is written to that file first, `<!-- demo -->`
is the demo's output. Commands in all other `sh` blocks are parsed.
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest

from latbench.analysis.summary import summarise
from latbench.cli.main import cli
from latbench.model import frames
from latbench.model.errors import ExitCode
from latbench.model.load import Step, ToolLoop, Trace
from latbench.model.request import MODES
from latbench.model.run import RunRecord, StepRecord
from latbench.model.sample import Outcome, Sample
from latbench.providers.base import Dialect
from latbench.scenario import schema, trace
from latbench.scenario.load import SHAPES, LoadEntry
from latbench.scenario.loader import load_scenario
from latbench.scenario.needle import NeedleSettings
from latbench.scenario.prompts import load_prompts
from latbench.store.manifest import REPORT, SUMMARY

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "grafana" / "README.md", *(ROOT / "docs").rglob("*.md")]
)
ROOMS = "latbench|tests|docs|scenarios|benchmarks|grafana"
SHORTER = {"60s": "1s", "--requests 400": "--requests 8", "--requests 100": "--requests 8"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@dataclass(frozen=True)
class Block:
    """A fenced block; `marker` is the comment on the line before it."""

    language: str
    marker: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"(?:^<!-- (.+?) -->\n)?^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(found) * 2 == len(re.findall(r"^```", text, re.MULTILINE)), f"{page}: a fence without language or end"
    return [Block(language, marker, body) for marker, language, body in found]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def spans(page: Path) -> list[str]:
    """What stands in backticks outside of fences."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def first_column(page: str, head: str) -> list[str]:
    """The backticked names in the first column of the table whose head begins so."""
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = text[text.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


# --- names ------------------------------------------------------------------------------------------------------------


@cache
def names_in(path: Path) -> set[str]:
    """Functions, classes, constants, methods and fields of a module, as `name` or `Class.name`."""
    found: set[str] = set()

    def add(body: Sequence[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    add(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(prefix + node.target.id)
            elif isinstance(node, ast.Assign):
                found.update(prefix + target.id for target in node.targets if isinstance(target, ast.Name))

    add(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


def missing_name(span: str) -> str | None:
    """What a span names that is not there: a path, or `file.py:Name` in one."""
    match = re.fullmatch(rf"((?:{ROOMS})/[\w./-]*?)(?::([\w.]+))?", span)
    if match is None:
        return None
    path, name = ROOT / match[1], match[2]
    if not path.exists():
        return f"no such path: {span}"
    return f"no such name: {span}" if name and name not in names_in(path) else None


@each_page
def test_paths_and_names_in_backticks_exist(page: Path) -> None:
    assert [missing for span in spans(page) if (missing := missing_name(span))] == []


def test_a_name_that_is_gone_is_found() -> None:
    assert missing_name("latbench/engine/stamped.py:StampedHandler.data_received") is None
    assert missing_name("latbench/engine/stamped.py:StampedHandler.data_recieved")
    assert missing_name("latbench/engine/teleport.py")
    assert sum(":" in span and missing_name(span) is None for page in PAGES for span in spans(page)) > 60


@each_page
def test_options_in_backticks_exist(page: Path) -> None:
    known = {option for command in commands(cli) for found in command.params for option in found.opts}
    known |= {"--help", "--version", "--require-hashes", *re.findall(r"--[a-z][a-z-]+", locust_help())}
    named = {word for span in spans(page) for word in re.findall(r"^--[a-z0-9-]+", span)}
    assert named - known == set()


def commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from commands(found)


def test_every_message_outcome_and_stamp_is_described() -> None:
    down = {struct.__name__ for struct in frames.Down.__args__}
    up = {struct.__name__ for struct in frames.Up.__args__}
    assert set(first_column("docs/how-it-works.md", "down: orders")) == down
    assert set(first_column("docs/how-it-works.md", "up: reports")) == up
    assert first_column("docs/measurement.md", "outcome") == [str(outcome) for outcome in Outcome]
    stamps = {name for name in Sample.__struct_fields__ if name.endswith("_ns")} - {"wait_ns", "waited_ns"}
    stamps = {name for name in stamps if not name.startswith("tools_")}  # how long, not when
    assert set(first_column("docs/measurement.md", "stamp")) == stamps


def test_every_exit_code_is_described() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == set(ExitCode)


def test_every_part_of_a_dialect_is_described() -> None:
    parts = [name.partition("(")[0] for name in first_column("docs/adding-a-provider.md", "part")]
    assert parts == list(Dialect.__dataclass_fields__)


def test_every_key_of_a_scenario_is_described() -> None:
    text = (ROOT / "docs" / "scenario.md").read_text(encoding="utf-8")
    parts = re.split(r"^##+ ", text, flags=re.MULTILINE)
    described = {part.partition("\n")[0]: re.findall(r"^\| `([\w.]+)`", part, re.MULTILINE) for part in parts}
    nested = {"output": schema.OutputSettings, "timeouts": schema.TimeoutSettings}
    (needle,) = [part for part in parts if part.startswith("Needle trials")]
    rows = " ".join(re.findall(r"^\| (`[^|]+) \|", needle, re.MULTILINE))
    assert re.findall(r"`(\w+)`", rows) == schema.keys_of(NeedleSettings)
    keys = [
        name
        for key in schema.Scenario.model_fields
        for name in ([f"{key}.{inner}" for inner in schema.keys_of(nested[key])] if key in nested else [key])
    ]
    assert described["Keys"] == keys
    assert described["An endpoint"] == list(schema.EndpointSettings.model_fields)
    load = text[text.index("### Load") : text.index("A trace is CSV")]
    assert first_column("docs/scenario.md", "shape") == list(SHAPES)
    table = re.findall(r"^\| (`[^|]+) \|", load[load.index("| key |") :], re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(table)) == schema.keys_of(LoadEntry)
    for row in re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", load[: load.index("| key |")], re.MULTILINE):
        needed, further = (tuple(re.findall(r"`(\w+)`", cell)) for cell in row[1:])
        assert SHAPES[row[0]] == (needed, further)
    assert first_column("docs/scenario.md", "column") == list(trace.KEYS)


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_relative_to(ROOT), target
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@each_page
def test_no_page_names_this_machine(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(work|home|root|tmp|Users)/", page.read_text(encoding="utf-8"))


# --- commands ---------------------------------------------------------------------------------------------------------


def command_lines(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words[: words.index(">")] if ">" in words else words


def check_command(words: Sequence[str]) -> None:
    """Raises click.UsageError, or fails, for a command line that cannot be right."""
    program, *rest = words
    if program == "latbench":
        parse(cli, "latbench", rest, None)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert rest, "make what?"
        assert set(rest) <= set(targets)
    elif program == "locust":
        assert (ROOT / rest[rest.index("-f") + 1]).is_file()
        known = locust_help()
        assert [word for word in rest if word.startswith("-") and not re.search(rf"{word}\b", known)] == []
    else:
        assert program == "export", f"{program}: a command that no test knows"


def parse(command: click.Command, name: str, words: list[str], parent: click.Context | None) -> None:
    """As click does it, without running the verb."""
    if not isinstance(command, click.Group):
        command.make_context(name, words, parent)
        return
    context = click.Context(command, info_name=name, parent=parent)
    verb, found, rest = command.resolve_command(context, words)
    assert found is not None
    parse(found, str(verb), rest, context)


@cache
def locust_help() -> str:
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "latbench" / "locustfile.py"), "--help"]
    ours = (ROOT / "latbench" / "locustfile.py").read_text(encoding="utf-8")  # Locust's help leaves these out
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout + ours


@each_page
def test_commands_in_sh_blocks_parse(page: Path) -> None:
    for block in blocks(page):
        if block.language == "sh":
            for words in command_lines(block.text):
                check_command(words)


@each_page
def test_verbs_in_backticks_exist(page: Path) -> None:
    for span in spans(page):
        if re.match(r"(latbench|make) [a-z-]", span):
            with suppress(click.MissingParameter, click.BadOptionUsage):  # named, not shown whole
                check_command(shlex.split(span))


@pytest.mark.parametrize(
    "line", ["latbench run --retries 4", "latbench needel", "latbench runs drop x", "latbench run --workers many"]
)
def test_a_command_that_is_not_there_is_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        check_command(shlex.split(line))


def write_files(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if block.marker.startswith("file: "):
            path = folder / block.marker.removeprefix("file: ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")


@pytest.mark.long
@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
def test_readme_commands_run(tmp_path: Path, sim_url: str, environment: dict[str, str]) -> None:
    page = ROOT / "README.md"
    write_files(page, tmp_path)
    shown = [block.text for block in blocks(page) if block.marker == "run: endpoint"]
    assert len(shown) >= 3
    for text in shown:
        assert "https://host/v1" in text
        for long, short in {**SHORTER, "https://host/v1": sim_url}.items():
            text = text.replace(long, short)
        done = subprocess.run(
            ["sh", "-euc", text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert "error rate 0.00 %" in done.stdout
    for name in (SUMMARY, REPORT):
        assert len(list(tmp_path.glob(f"runs/*/{name}"))) == len(shown)
    assert (tmp_path / "samples.csv").read_text(encoding="utf-8").count("\n") == 1 + 8


# --- examples ---------------------------------------------------------------------------------------------------------


def test_the_example_scenario_loads(tmp_path: Path) -> None:
    write_files(ROOT / "docs" / "scenario.md", tmp_path)
    loaded = load_scenario(tmp_path / "my-scenario.yaml")
    assert [endpoint.name for endpoint in loaded.endpoints()] == ["acme-large", "local"]
    prompts = load_prompts(loaded.scenario.prompts, loaded.prompts_base)
    steps = loaded.steps(prompts)
    assert [(step.concurrency, step.requests) for step in steps[:4]] == [(1, None), (4, None), (16, None), (32, 1000)]
    assert [step.words for step in steps[4:]] == [
        *("constant 4/s", "constant 8/s", "poisson 4/s", "poisson 8/s", "gamma 2/s cv 1.5", "ramp 1/s to 10/s"),
        *("burst 50 every 30s", "trace monday.csv", "sessions 0.5/s of 4 turns think 2s"),
        *("tool_loop 0.2/s parallel", "tool_loop 0.2/s sequential"),
    ]
    monday = steps[-4].shape
    assert isinstance(monday, Trace)
    assert "com-go-console-kinds" in monday.prompt_ids
    assert len(monday.offsets_ns) == 3 * 8
    written = loaded.document.data
    assert list(written) == [key for key in schema.Scenario.model_fields if key != "needle"]
    needles = load_scenario(tmp_path / "needles.yaml").document.data
    assert list(needles["needle"]) == schema.keys_of(NeedleSettings)
    assert list(written["endpoints"][0]) == list(schema.EndpointSettings.model_fields)


def test_the_example_of_output_modes_loads(tmp_path: Path) -> None:
    write_files(ROOT / "docs" / "scenario.md", tmp_path)
    loaded = load_scenario(tmp_path / "structured.yaml")
    assert loaded.scenario.output.mode == MODES
    assert first_column("docs/scenario.md", "mode") == list(MODES)
    assert loaded.schema()["required"] == ["line", "finding"]
    assert (loaded.scenario.rate_limits, loaded.scenario.demand) == (
        "respect",
        schema.Demand(rpm=300, tokens_per_request=2100),
    )
    (endpoint,) = loaded.endpoints()
    assert endpoint.api_key_env == ("ACME_KEY_1", "ACME_KEY_2")


@pytest.mark.long
def test_the_example_of_tool_loops_runs(tmp_path: Path, environment: dict[str, str]) -> None:
    write_files(ROOT / "docs" / "scenario.md", tmp_path)
    (shown,) = [
        block.text for block in blocks(ROOT / "docs" / "scenario.md") if block.text.endswith("tool-loop.yaml\n")
    ]
    done = subprocess.run(
        ["sh", "-euc", shown], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tool loops in step") == 2
    (summary,) = tmp_path.glob(f"runs/*/{SUMMARY}")
    steps = json.loads(summary.read_text(encoding="utf-8"))["steps"]
    for step, execution in zip(steps, ("parallel", "sequential"), strict=True):
        loops = step["endpoints"]["sim"]["tool_loop"]
        assert (loops["execution"], loops["ok"], loops["calls"]) == (execution, 10, 60)
        assert loops["total_s"]["min"] >= loops["tools_s"]["min"] >= 2 * 0.2


def test_the_tool_loop_of_a_summary_is_described() -> None:
    described = set(first_column("docs/measurement.md", "figure"))
    run = RunRecord("i", "n", "s", "h", {}, "t", 1, 0, endpoints={"a": {}})
    run.steps = [StepRecord(0, "tool_loop", None, 1.0, None, 0, 0, 1, Step(ToolLoop(1.0), requests=1))]
    found = summarise(run, [], {})["endpoints"]["a"]["tool_loop"]
    counts = {"execution", "max_rounds", "planned", "ok", "completion_rate", "outcomes", "calls"}
    assert set(found) - counts == described


def test_the_example_prompts_load(tmp_path: Path) -> None:
    write_files(ROOT / "docs" / "scenario.md", tmp_path)
    loaded = load_prompts(schema.PromptSettings(path="own"), tmp_path)
    by_id = {prompt.id: prompt for prompt in loaded.prompts}
    assert by_id.keys() == {"t-1", "t-2", "t-3", "t-4", "case-1", "cases-8", "question"}
    case = by_id["case-1"]
    assert (case.task, set(case.extra)) == ("review", {"category", "criteria", "reference_output"})
    assert "def total(prices):" in case.messages[0].content
    assert [message.role for message in by_id["t-2"].messages] == ["system", "user"]
    assert by_id["t-2"].max_tokens == 64
    assert len(by_id["t-3"].messages) == 3
    assert "<CURSOR>" in by_id["t-4"].messages[0].content


def test_the_pack_is_as_large_as_the_pages_say() -> None:
    manifest = (ROOT / "scenarios" / "code-mix" / "manifest.yaml").read_text(encoding="utf-8")
    (count,) = re.findall(r"^  prompts: (\d+)$", manifest, re.MULTILINE)
    for page in ("README.md", "CHANGELOG.md"):
        assert set(re.findall(r"(\d+) prompts\b", (ROOT / page).read_text(encoding="utf-8"))) == {count}


# --- the demo and the generated pages ---------------------------------------------------------------------------------


def shape(report: str) -> list[str]:
    """The lines of a report with figures, widths, wrapping and notes on small numbers taken out.

    Whether 400 requests suffice for p99 and p1 is a matter of what they count for: those columns may be there or not.
    """
    text = re.sub(r"\n {4}", " ", report.strip())
    text = re.sub(r"\d{8}T\d{6}Z|\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{10}\b", "ID", text).replace(" (thin)", "")
    text = re.sub(r"p(50 +p90|50 +p10) .*", r"p\1", text)
    text = re.sub(r"n/a ≥[\d,]+|has [\d,]+|\d[\d,.]*(–\d[\d.]*)?", "0", text)
    lines = [re.sub(r"( 0)+$", " 0", re.sub(r"[ ─]+", " ", line).strip()) for line in text.splitlines()]
    verdict = ("verdict:", "invalid:", "suspect:", "note:")  # a matter of how busy this machine is
    notes = (*verdict, "n/a ≥N", "thin:", "0 % interval:", "few_beyond:", "dependent:", "p0 needs")
    return [line for line in lines if line and not line.startswith(notes)]


@pytest.mark.long
def test_the_readme_shows_what_the_demo_prints(tmp_path: Path, environment: dict[str, str]) -> None:
    (demo,) = [block.text for block in blocks(ROOT / "README.md") if block.marker == "demo"]
    assert max(map(len, demo.splitlines())) <= 80
    assert "ok 400; error rate 0.00 %" in demo
    # As many requests as in the demo, since columns without a figure are left out, but short ones of the same tasks.
    tasks = ("completion", "debug", "generation", "refactor", "review", "search")
    prompt = {"prompt": "x", "language": "go", "expect": {"finding": {"symbol": "x"}}}
    short = [json.dumps({"id": task, "task": task, **prompt}) for task in tasks]
    (tmp_path / "short.jsonl").write_text("\n".join(short), encoding="utf-8")
    command = ["latbench", "run", "quickstart", "--requests", "400", "--concurrency", "64", "--max-tokens", "4"]
    command += ["--prompts", "short.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert shape(demo) == shape(done.stdout)


@pytest.mark.long
def test_the_generated_pages_are_up_to_date(tmp_path: Path) -> None:
    def generate(folder: Path, *arguments: str) -> tuple[int, str]:
        command = [sys.executable, str(folder / "generate.py"), *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    assert generate(ROOT / "docs", "--check") == (0, "")
    shutil.copy(ROOT / "docs" / "generate.py", tmp_path)
    code, message = generate(tmp_path, "--check")
    assert code == 1
    assert "docs/cli.md, docs/metrics.md, docs/providers.md" in message
    assert not list(tmp_path.glob("*.md"))
    assert generate(tmp_path) == (0, "")
    for name in ("cli.md", "metrics.md", "providers.md"):
        assert (tmp_path / name).read_bytes() == (ROOT / "docs" / name).read_bytes()


# --- the simulation of docs/statistics.md -----------------------------------------------------------------------------


def test_the_statistics_page_shows_the_table_of_the_simulation() -> None:
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    _, shown = page.split("<!-- benchmarks/results/coverage.md -->\n")
    assert shown.split("<!-- end -->")[0] == (ROOT / "benchmarks" / "results" / "coverage.md").read_text(
        encoding="utf-8"
    )
