"""From a file and flags to the records of the engine; messages with the true line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.model.errors import UserError
from latbench.model.load import Burst, Closed, Gamma, Poisson, Ramp, Sessions, Step, Trace
from latbench.model.request import Endpoint, Timeouts
from latbench.plan.arrivals import arrivals
from latbench.scenario import files
from latbench.scenario.files import read_text, read_yaml, shipped_folder, shown
from latbench.scenario.loader import Flags, Loaded, check_environment, find_scenario, load_scenario
from latbench.scenario.prompts import PromptSet, load_prompts
from latbench.scenario.schema import BudgetSettings

SECOND = 1_000_000_000
NO_PROMPTS = PromptSet("none", "", "", (), {})
FULL = """\
name: full
version: "2"
seed: 7
endpoints:
  - name: acme-large
    provider: acme
    api: openai-chat
    base_url: https://host/v1/
    model: acme-coder-l
    api_key_env: [ACME_A, ACME_B]
    headers: {X-Team: bench, X-Api-Key: {env: ACME_HEADER}}
    body: {temperature: 0, stop: null}
    stream: false
    max_tokens_field: max_tokens
    usage: off
    ca_file: ca.pem
    proxy: env
    price: {input: 3.00, output: 15, cached_input: 0.3}
    limits: {rpm: 500, tpm: 200k, concurrency: null}
prompts:
  path: prompts
  tasks: {generation: 3, search: 1}
output: {max_tokens: 1k}
cache: warm
timeouts: {connect: 1s, first_output: 2s, idle: 3s, total: 4m}
drain: 0s
load:
  - {shape: closed, concurrency: [1, 4], duration: 60s, warmup: 5s, think: 250ms}
  - {shape: closed, concurrency: 8, requests: 200}
labels: {region: eu}
"""
SMALL = """\
name: small
endpoints:
  - {name: sim, api: openai-chat, base_url: sim, model: sim-coder}
prompts: {pack: code-mix}
load: {shape: closed, concurrency: 2, duration: 90s}
"""
OPEN = """\
name: open
endpoints:
  - {name: a, api: openai-chat, base_url: sim, model: m, price: {input: 1, output: 2}}
  - {name: b, api: openai-chat, base_url: sim, model: m, price: {input: 1.5, output: 2, cached_input: 0.1}}
prompts: {pack: code-mix}
load:
  - {shape: [constant, poisson], rate: [4/s, 1/min], duration: 90s, max_in_flight: 9}
  - {shape: gamma, rate: 4/s, cv: 1.5, requests: 5}
  - {shape: ramp, from: 1/s, to: 10/s, duration: 30s}
  - {shape: burst, size: 50, every: 30s, requests: 150}
  - {shape: sessions, turns: 4, rate: 1/s, think: 2s, requests: 9}
endpoints_order: {alternate: {slice: 20s}}
slo: {ttft: 800ms, e2e_tokens_per_s: 20}
lead: [ttft, total_time]
budget: {usd: 5, requests: 5k}
"""


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, **flags: Any) -> Loaded:
    path = Path.cwd() / "s.yaml"
    path.write_text(text, encoding="utf-8")
    return load_scenario(path, Flags(**flags))


def refused(text: str, **flags: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(text, **flags)
    return str(caught.value).splitlines()


def test_a_scenario_becomes_the_records_of_the_engine() -> None:
    loaded = load(FULL)
    assert loaded.endpoints() == [
        Endpoint(
            name="acme-large",
            provider="acme",
            api="openai-chat",
            base_url="https://host/v1",
            model="acme-coder-l",
            api_key_env=("ACME_A", "ACME_B"),
            headers={"X-Team": "bench"},
            header_env={"X-Api-Key": "ACME_HEADER"},
            body={"temperature": 0, "stop": None},
            stream=False,
            max_tokens_field="max_tokens",
            usage="off",
            ca_file=str(Path.cwd() / "ca.pem"),
            proxy="env",
        )
    ]
    assert loaded.timeouts() == Timeouts(SECOND, 2 * SECOND, 3 * SECOND, 240 * SECOND)
    assert loaded.drain_ns == 0
    assert loaded.steps(NO_PROMPTS) == [
        Step(Closed(1, SECOND // 4), None, 60 * SECOND, 5 * SECOND),
        Step(Closed(4, SECOND // 4), None, 60 * SECOND, 5 * SECOND),
        Step(Closed(8), 200),
    ]
    assert loaded.scenario.output.max_tokens == 1000
    assert loaded.prompts_base == Path.cwd()


def test_the_provider_is_the_name_where_none_is_given() -> None:
    assert load(SMALL).endpoints()[0].provider == "sim"


@pytest.mark.parametrize("text", [FULL, SMALL, OPEN])
def test_the_resolved_scenario_is_a_scenario_and_resolves_to_itself(text: str) -> None:
    first = load(text)
    again = load(yaml.safe_dump(json.loads(json.dumps(first.resolved()))))
    assert again.resolved() == first.resolved()
    assert again.sha256 == first.sha256
    assert again.endpoints() == first.endpoints()
    assert again.scenario.steps() == first.scenario.steps()


def test_the_hash_is_of_what_is_meant_and_not_of_how_it_is_written() -> None:
    plain = load(SMALL).sha256
    assert load("# a comment\n" + SMALL.replace("90s", "1.5m") + "seed: 0\n").sha256 == plain
    assert load(SMALL, seed=0).sha256 == plain
    assert load(SMALL, seed=1).sha256 != plain


def test_messages_name_the_true_line_in_order() -> None:
    text = FULL.replace("model: acme", "modle: acme").replace("seed: 7", "seed: x").replace("warmup: 5s", "warmup: 5")
    assert refused(text) == [
        "s.yaml:3: seed: must be a whole number",
        "s.yaml:5: endpoints[0].model: missing; add it",
        's.yaml:9: endpoints[0].modle: unknown key; did you mean "model"?',
        "s.yaml:28: load[0].warmup: a bare number; write 5s",
    ]


def test_what_is_written_as_one_value_is_named_as_one() -> None:
    assert refused(SMALL.replace("duration: 90s", "duration: 90")) == [
        "s.yaml:5: load.duration: a bare number; write 90s"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml: the file is empty"),
        ("# nothing\n", "s.yaml: the file is empty"),
        ("- a\n", "s.yaml:1: the top level must be a mapping; begin with `name:`"),
        ("name: a\n\tseed: 1\n", "s.yaml:2: a tab at the start of a line; indent with spaces"),
        ("endpoints:\n\t- name: a\n", "s.yaml:2: a tab at the start of a line; indent with spaces"),
        ("name: a: b\n", "s.yaml:1: not YAML: "),
        ("name: a\nload: [1, 2\n", "s.yaml:3: not YAML: "),
        ("name: *a\n", "s.yaml:1: not YAML: "),
        ("name: a\n---\nname: b\n", "s.yaml:2: not YAML: "),
        ("name: a\nx: \x07\n", "s.yaml:2: a control character"),
        ("name: a\nseed: 1\nname: b\n", "s.yaml:1: name: written twice, again in line 3; keep one"),
        ("name: !!python/name:os.system a\n", "s.yaml:1: name: the tag !!python/name:os.system is not allowed"),
        ("name: !!set {a, b}\n", "s.yaml:1: name: the tag !!set is not allowed; write plain data"),
        ("a: &a [*a]\n", "s.yaml:1: not YAML: an alias inside of what it stands for"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "s.yaml:3: c.line 3: not a key; write it as text"),
        ("? [a]\n: b\n", "s.yaml:1: line 1: not a key; write it as text"),
        ("[" * 2000 + "]" * 2000, "s.yaml: nested too deeply"),
    ],
)
def test_what_is_not_plain_yaml(text: str, message: str) -> None:
    assert message in refused(text)[0]


def test_aliases_do_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_NODES", 1000)
    (line,) = refused("a: &a [" + "1," * 99 + "]\nb: &b [" + "*a," * 99 + "]\nc: [*b, *b]\n")
    assert line == "s.yaml:1: not YAML: too many values"


def test_words_and_numbers_mean_what_they_say() -> None:
    Path("v.yaml").write_text(
        "[off, yes, on, true, False, null, ~, 010, 0x1F, 1_000, 0b1, 1:30, 1.5, .inf, .nan, 2026-11-22, =, '1', 0o17]\n"
    )
    assert read_yaml(Path("v.yaml")).data == [
        *("off", "yes", "on", True, False, None, None, 10, 31, 1000, "0b1", "1:30", 1.5),
        *(".inf", ".nan", "2026-11-22", "=", "1", "0o17"),
    ]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text("ab 1"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text("abc", min_size=1), plain))
def test_every_value_has_a_line(data: dict[str, Any]) -> None:
    path = Path("any.yaml")
    path.write_text(json.dumps(data, indent=1))  # JSON is YAML
    document = read_yaml(path)
    assert document.data == data
    lines = path.read_text().split("\n")
    for key, line in document.lines.items():
        if key and isinstance(key[-1], str):
            assert f'"{key[-1]}":' in lines[line - 1]


def test_files_that_cannot_be_read() -> None:
    folder = Path.cwd()
    (folder / "bytes.yaml").write_bytes(b"name: a\nx: \xff\n")
    (folder / "zero.yaml").write_bytes(b"name: a\0\n")
    with (folder / "huge.yaml").open("wb") as file:
        file.truncate(21 * 2**20)
    for name, message in (
        ("bytes.yaml", "bytes.yaml:2: not UTF-8 text; save it as UTF-8"),
        ("zero.yaml", "zero.yaml: a binary file; only text can be read"),
        ("huge.yaml", "huge.yaml: larger than 20 MB; split it"),
        ("none.yaml", "none.yaml: cannot be read: No such file or directory"),
        (".", ".: cannot be read: Is a directory"),
    ):
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            read_text(folder / name)


def test_a_byte_order_mark_is_not_text() -> None:
    Path("bom.yaml").write_bytes(b"\xef\xbb\xbfname: a\n")
    assert read_yaml(Path("bom.yaml")).data == {"name": "a"}


def test_a_path_outside_is_shown_as_it_is() -> None:
    assert shown(Path("/elsewhere/s.yaml")) == "/elsewhere/s.yaml"
    assert shown(Path.cwd() / "a" / "s.yaml") == "a/s.yaml"


# --- finding ---


def test_a_name_is_looked_up_here_and_then_in_what_comes_with_us() -> None:
    cwd = Path.cwd()
    assert find_scenario("quickstart", cwd) == shipped_folder() / "quickstart.yaml"
    (cwd / "scenarios").mkdir()
    (cwd / "scenarios" / "quickstart.yaml").touch()
    (cwd / "scenarios" / "mine.yml").touch()
    assert find_scenario("quickstart", cwd) == cwd / "scenarios" / "quickstart.yaml"
    assert find_scenario("mine", cwd) == cwd / "scenarios" / "mine.yml"
    with pytest.raises(UserError, match='no scenario "quikstart"; did you mean "quickstart"\\? there are: chat,'):
        find_scenario("quikstart", cwd)
    with pytest.raises(UserError, match=r'no scenario "zzz"; there are: .*mine, needle, nightly-batch, quickstart'):
        find_scenario("zzz", cwd)


def test_a_path_is_a_path() -> None:
    cwd = Path.cwd()
    (cwd / "mine.yaml").touch()
    assert find_scenario("mine.yaml", cwd) == cwd / "mine.yaml"
    with pytest.raises(UserError, match=r'^mien.yaml: no such file; did you mean "mine.yaml"\?$'):
        find_scenario("mien.yaml", cwd)
    with pytest.raises(UserError, match=r"^nowhere/mine: no such file$"):
        find_scenario("nowhere/mine", cwd)


SHIPPED = sorted(file.stem for file in shipped_folder().glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_what_comes_with_us_loads(name: str) -> None:
    loaded = load_scenario(find_scenario(name, Path.cwd()))
    assert loaded.scenario.name == name
    prompts = load_prompts(loaded.scenario.prompts, loaded.prompts_base, loaded.where("prompts"))
    steps = loaded.steps(prompts)
    for index, step in enumerate(steps):
        if step.open:
            assert 45 <= len(arrivals(step, loaded.scenario.seed, index)) <= 500
    assert bool(loaded.scenario.lead) == bool(loaded.slo()) == (name not in ("quickstart", "code-assistant", "needle"))
    assert ("usd_per_1k_tokens" in loaded.scenario.lead) <= bool(loaded.prices())
    assert [endpoint.base_url for endpoint in loaded.endpoints()] == ["sim"]
    assert (loaded.scenario.prompts is None) == (name == "needle")
    assert loaded.scenario.prompts is None or loaded.scenario.prompts.pack == "code-mix"
    check_environment(loaded, {})


def test_the_four_uses_come_with_us() -> None:
    assert set(SHIPPED) == {
        "quickstart",
        "code-assistant",
        "ide-completion",
        "chat",
        "ci-burst",
        "needle",
        "nightly-batch",
    }


# --- flags ---


def only_step(text: str, **flags: Any) -> Step:
    (step,) = load(text, **flags).scenario.steps()
    return step


def first(entry: str) -> str:
    """A scenario whose load begins with that entry."""
    return SMALL.replace(
        "{shape: closed, concurrency: 2, duration: 90s}", f"[{entry}, {{shape: closed, concurrency: 3, requests: 1}}]"
    )


def test_any_flag_of_the_load_makes_it_one_step() -> None:
    slow = Closed(1, SECOND // 4)
    assert only_step(FULL, concurrency=9) == Step(Closed(9, SECOND // 4), None, 60 * SECOND, 5 * SECOND)
    assert only_step(FULL, requests=50) == Step(slow, 50)
    assert only_step(FULL, duration="30s") == Step(slow, None, 30 * SECOND, 5 * SECOND)
    assert only_step(FULL, requests=50, duration="3s") == Step(slow, 50, 3 * SECOND)
    assert only_step(SMALL, concurrency=1, duration="9s") == Step(Closed(1), None, 9 * SECOND, 3 * SECOND)
    assert only_step(FULL, rate="4/s") == Step(Poisson(4.0), None, 60 * SECOND, 5 * SECOND)
    assert only_step(FULL, rate="4/s", requests=50) == Step(Poisson(4.0), 50)


def test_a_first_step_by_requests_lends_them() -> None:
    by_requests = SMALL.replace("duration: 90s", "requests: 7, warmup: 2s")
    assert only_step(by_requests, concurrency=3) == Step(Closed(3), 7, None, 2 * SECOND)
    assert only_step(by_requests, duration="30s") == Step(Closed(2), None, 30 * SECOND, 2 * SECOND)


@pytest.mark.parametrize(
    ("entry", "flags", "step"),
    [
        (
            "{shape: poisson, rate: 4/s, duration: 60s}",
            {"duration": "9s"},
            Step(Poisson(4), None, 9 * SECOND, 3 * SECOND),
        ),
        (
            "{shape: poisson, rate: 4/s, duration: 60s, max_in_flight: 7}",
            {"rate": "9/s"},
            Step(Poisson(9), None, 60 * SECOND, 10 * SECOND, 7),
        ),
        (
            "{shape: poisson, rate: 4/s, duration: 60s, max_in_flight: 7}",
            {"concurrency": 3},
            Step(Closed(3), None, 60 * SECOND, 10 * SECOND),
        ),
        ("{shape: gamma, rate: 4/s, cv: 2, requests: 60}", {"requests": 5}, Step(Gamma(4, 2), 5)),
        ("{shape: burst, size: 50, every: 30s, requests: 150}", {"requests": 100}, Step(Burst(50, 30 * SECOND), 100)),
        ("{shape: ramp, from: 1/s, to: 9/s, duration: 60s}", {"requests": 5}, Step(Ramp(1, 9), 5, 60 * SECOND)),
        (
            "{shape: ramp, from: 1/s, to: 9/s, duration: 60s}",
            {"duration": "30s"},
            Step(Ramp(1, 9), None, 30 * SECOND, 10 * SECOND),
        ),
        ("{shape: ramp, from: 1/s, to: 9/s, duration: 60s}", {"rate": "2/s", "requests": 5}, Step(Poisson(2), 5)),
        (
            "{shape: sessions, turns: 3, rate: 1/s, think: 2s, requests: 9}",
            {"requests": 4},
            Step(Sessions(1, 3, 2 * SECOND), 4),
        ),
        (
            "{shape: sessions, turns: 3, rate: 1/s, think: 2s, requests: 9}",
            {"concurrency": 4},
            Step(Closed(4, 2 * SECOND), 9),
        ),
    ],
)
def test_what_no_flag_says_comes_from_the_first_step(entry: str, flags: dict[str, Any], step: Step) -> None:
    assert only_step(first(entry), **flags) == step


def test_a_url_replaces_the_endpoints() -> None:
    loaded = load(FULL, url="http://h/v1", api_key_env="KEY")
    assert loaded.endpoints() == [
        Endpoint("acme-coder-l", "acme-coder-l", "openai-chat", "http://h/v1", "acme-coder-l", api_key_env=("KEY",))
    ]
    (endpoint,) = load(SMALL, url="http://h", model="org/m").endpoints()
    assert (endpoint.name, endpoint.model, endpoint.base_url) == ("org/m", "org/m", "http://h")
    assert load(SMALL, url="sim").endpoints()[0].model == "sim-coder"


def test_without_a_url_the_flags_change_the_one_endpoint() -> None:
    (endpoint,) = load(FULL, model="other", api_key_env="KEY", api="openai-chat").endpoints()
    assert (endpoint.name, endpoint.model, endpoint.api_key_env) == ("acme-large", "other", ("KEY",))
    assert endpoint.headers == {"X-Team": "bench"}


def test_the_other_flags() -> None:
    flags = {"max_tokens": "2k", "seed": 9, "prompts": "mine", "labels": {"region": "us", "who": "me"}}
    loaded = load(FULL, **flags)
    assert loaded.scenario.output.max_tokens == 2000
    assert loaded.scenario.seed == 9
    assert loaded.resolved()["prompts"] == {"path": "mine", "tasks": {}}
    assert loaded.scenario.labels == {"region": "us", "who": "me"}
    assert loaded.where("prompts", "tasks") == "--prompts"
    assert loaded.where("drain") == "s.yaml:26: drain"


def test_a_path_of_a_flag_is_relative_to_here(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "s.yaml"
    path.write_text(FULL)
    assert load_scenario(path).prompts_base == tmp_path / "deep"
    assert load_scenario(path, Flags(prompts=Path("mine"))).prompts_base == tmp_path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"duration": "60"}, "--duration 60: a bare number; write 60s"),
        ({"duration": "0s"}, "--duration 0s: must be longer than 0s"),
        ({"concurrency": 0}, "--concurrency 0: must be at least 1"),
        ({"rate": "4"}, "--rate 4: a bare number; write 4/s"),
        ({"rate": "0/s"}, "--rate 0/s: must be more than 0"),
        ({"rate": "4/s", "concurrency": 4}, "--rate: not with --concurrency"),
        ({"rate": "1000/s", "duration": "8760h"}, "--rate --duration: poisson 1000/s: about 34,"),
        ({"requests": -1, "concurrency": 1}, "--requests -1: must be at least 1"),
        ({"max_tokens": "1K"}, "--max-tokens 1K: not a size;"),
        ({"seed": -1}, "--seed -1: must be at least 0"),
        ({"labels": {"": "x"}}, "--label: must be text"),
        ({"prompts": ""}, "--prompts: must be text"),
        ({"api": "openai"}, "--api openai: must be openai-chat or openai-completions or"),
        ({"url": "http://me:s3cret@h", "model": "m"}, "--url: must not hold credentials"),
        ({"url": "h:80", "model": "m"}, '--url: must be "sim" or a URL'),
        ({"url": "http://h"}, "--url: the scenario's endpoint is simulated (sim-coder); name the model with --model"),
        ({"api_key_env": "s3-cret"}, "--api-key-env: must be the name of an environment variable"),
        ({"model": ""}, "--model: must be text"),
    ],
)
def test_mistakes_in_flags_name_the_flag(flags: dict[str, Any], message: str) -> None:
    (line,) = refused(SMALL, **flags)
    assert line.startswith(message)
    assert "s3" not in line


@pytest.mark.parametrize("flag", ["model", "api", "api_key_env"])
def test_several_endpoints_need_a_url(flag: str) -> None:
    two = SMALL.replace("prompts:", "  - {name: b, api: openai-chat, base_url: http://b, model: m}\nprompts:")
    name = "--" + flag.replace("_", "-")
    assert refused(two, **{flag: "openai-chat"}) == [
        f"{name}: there are several endpoints (sim, b); give --url as well"
    ]


# --- environment ---


def test_what_the_scenario_names_must_be_there() -> None:
    loaded = load(FULL)
    with pytest.raises(UserError) as caught:
        check_environment(loaded, {"ACME_A": "x", "ACME_B": " "})
    assert str(caught.value).splitlines() == [
        "s.yaml:10: endpoints[0].api_key_env[1]: the environment variable ACME_B is not set; export it",
        "s.yaml:11: endpoints[0].headers.X-Api-Key.env: the environment variable ACME_HEADER is not set; export it",
        "s.yaml:16: endpoints[0].ca_file: no such file: ca.pem; it is relative to the scenario's folder",
    ]
    Path("ca.pem").touch()
    check_environment(loaded, {"ACME_A": "x", "ACME_B": "y", "ACME_HEADER": "z"})


def test_a_missing_variable_of_a_flag_names_the_flag() -> None:
    with pytest.raises(UserError, match=r"^--api-key-env: the environment variable KEY is not set; export it$"):
        check_environment(load(SMALL, url="http://h", model="m", api_key_env="KEY"), {})


# --- endpoints in turns, limits, budgets ---


def test_endpoints_take_turns_where_there_are_several() -> None:
    assert {step.slice_ns for step in load(OPEN).steps(NO_PROMPTS)} == {20 * SECOND}
    together = OPEN.replace("{alternate: {slice: 20s}}", "together")
    assert {step.slice_ns for step in load(together).steps(NO_PROMPTS)} == {None}
    assert {step.slice_ns for step in load(OPEN.replace("usd: 5, ", ""), url="sim").steps(NO_PROMPTS)} == {None}


def test_what_the_record_of_a_run_needs() -> None:
    loaded = load(OPEN)
    assert loaded.slo() == {"ttft": 800.0, "e2e_tokens_per_s": 20}
    assert loaded.prices() == {
        "a": {"input": 1.0, "output": 2.0},
        "b": {"input": 1.5, "output": 2.0, "cached_input": 0.1},
    }
    assert loaded.budget() == BudgetSettings(usd=5.0, requests=5000)
    assert (load(SMALL).slo(), load(SMALL).prices(), load(SMALL).budget()) == ({}, {}, None)


def test_dollars_need_prices() -> None:
    free = OPEN.replace(", price: {input: 1, output: 2}", "")
    assert refused(free) == [
        "s.yaml:15: budget.usd: needs a price of every endpoint, and a has none; give it one "
        "(price: {input: 3.00, output: 15.00}), or limit requests or tokens instead"
    ]
    assert refused(OPEN, url="sim")[0].startswith("s.yaml:15: budget.usd: needs a price of every endpoint, and m has")
    load(free.replace("usd: 5, ", ""))


# --- traces ---

TRACED = SMALL.replace("{shape: closed, concurrency: 2, duration: 90s}", "{shape: trace, path: day.csv}")


def test_a_trace_is_part_of_what_a_scenario_means() -> None:
    day = Path("day.csv")
    day.write_text("offset\n0\n1\n")
    before = load(TRACED)
    (entry,) = before.resolved()["load"]
    assert entry == {"shape": "trace", "path": "day.csv", "sha256": before.traces["day.csv"].sha256, "warmup": "0s"}
    pinned = yaml.safe_dump(before.resolved())
    assert load(pinned).sha256 == before.sha256
    assert load(TRACED, seed=0).sha256 == before.sha256
    day.write_text("offset\n0\n2\n")
    after = load(TRACED)
    assert after.sha256 != before.sha256
    (line,) = refused(pinned)
    assert re.fullmatch(r"s\.yaml:\d+: load\[0\]\.sha256: day\.csv has changed: its SHA-256 is [0-9a-f]{64}", line)
    assert line.endswith(after.traces["day.csv"].sha256)
    (line,) = refused(pinned, requests=1)
    assert line.startswith("--requests: day.csv has changed")


def test_its_last_line_ends_a_trace_and_flags_cut_it_shorter() -> None:
    Path("day.csv").write_text("offset\n0\n1\n2\n")
    (step,) = load(TRACED).steps(NO_PROMPTS)
    assert (step.requests, step.duration_ns, step.warmup_ns) == (3, None, 0)
    assert isinstance(step.shape, Trace)
    assert arrivals(step, 0, 0).tolist() == [0, SECOND, 2 * SECOND]
    cuts: list[tuple[dict[str, Any], int]] = [({"requests": 2}, 2), ({"requests": 9}, 3), ({"duration": "1s"}, 1)]
    for flags, count in cuts:
        (step,) = load(TRACED, **flags).steps(NO_PROMPTS)
        assert step.requests == min(flags.get("requests", 3), 3)
        assert len(arrivals(step, 0, 0)) == count
    assert refused(TRACED, concurrency=3) == [
        "--concurrency: needs --requests or --duration: the first step is only as long as its trace"
    ]


def test_mistakes_in_traces_are_named_where_they_stand() -> None:
    Path("deep").mkdir()
    Path("deep/bad.jsonl").write_text('{"offset": 1}\n{"offset": -1}\n{"ofset": 2}\n')
    text = TRACED.replace("path: day.csv", "path: [day.csv, deep/bad.jsonl]")
    assert refused(text) == [
        "s.yaml:5: load.path[0]: no such file: day.csv; it is relative to the scenario's folder",
        "deep/bad.jsonl:2: offset: must not be negative; it counts from the start of the step",
        'deep/bad.jsonl:3: "ofset": unknown; did you mean "offset"?',
    ]


def test_a_trace_is_relative_to_the_scenario() -> None:
    folder = Path("deep").absolute()
    folder.mkdir()
    (folder / "s.yaml").write_text(TRACED)
    (folder / "day.csv").write_text("offset\n0\n")
    assert list(load_scenario(folder / "s.yaml", Flags(requests=1)).traces) == ["day.csv"]
