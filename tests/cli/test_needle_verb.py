"""`latbench needle` from the outside: what it says beforehand, sends, keeps, prints, and what it refuses."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from harness import Cli, closes, wait_until

LONG = pytest.mark.long
SMALL = ("needle", "--lengths", "1k", "--kinds", "constant", "--depths", "30%,70%", "--jitter", "0")


def block(summary: dict[str, Any], endpoint: str = "sim") -> dict[str, Any]:
    found: dict[str, Any] = summary["endpoints"][endpoint]["needle"]
    return found


def tight(cli: Cli, budget: dict[str, Any], **keys: Any) -> Path:
    price = {"input": 3.0, "output": 15.0}
    endpoint = {"name": "sim", "api": "openai-chat", "base_url": "sim", "model": "m", "price": price}
    needle = {"preset": "smoke", "lengths": "1k", "depths": ["30%", "70%"], "blocks": 3, "absent": "50%"}
    data = {"name": "tight", "endpoints": [endpoint], "needle": needle | keys, "budget": budget}
    return cli.write("tight.yaml", json.dumps(data))


@LONG
def test_trials_are_said_sent_graded_kept_and_printed_again(cli: Cli) -> None:
    done = cli.run(*SMALL, "--window", "peak", "--json", "--threshold", "needle accuracy lower > 10%")
    assert done.code == 0, done.err
    assert "at most 6 requests" in done.err  # two blocks at two depths, and 40 % controls
    assert "not powered for position" in done.err
    summary = done.summary
    assert closes(summary)
    assert summary["run"]["window"] == "peak"
    found = block(summary)
    (length,) = found["lengths"]
    assert (length["kind"], length["length"], length["correct"], length["answered"]) == ("constant", 1000, 4, 4)
    assert [cell["answered"] for cell in length["depths"]] == [2, 2]
    assert length["ttft_ms"]["n"] == length["e2e_ms"]["n"] == 4
    assert found["controls"]["absent"]["present"] == 0
    assert summary["thresholds"][0]["result"] == "pass"
    again = json.loads(cli.here("report", "--json").out)
    assert block(again) == found
    rows = cli.rows("SELECT kind, control, length, depth FROM needle_trials ORDER BY number")
    assert len(rows) == 6
    depths = sorted(depth for _, control, _, depth in rows if control == "none")
    assert depths == pytest.approx([0.3, 0.3, 0.7, 0.7], abs=0.01)
    assert cli.rows("SELECT DISTINCT outcome FROM needle_answers") == [("correct",)]
    assert all(text.startswith("ANSWER: ") for (text,) in cli.rows("SELECT answer FROM needle_answers"))
    assert "not powered for position" in cli.here("report").out
    assert "### needle: constant at 1k tokens" in cli.here("report", "--format", "markdown").out


@LONG
def test_a_prompt_is_rebuilt_as_it_was_sent(cli: Cli) -> None:
    assert cli.run(*SMALL).code == 0
    prompt = json.loads(cli.here("needle", "--rebuild", "latest", "2").out)
    ((sha256, nonce, tokens),) = cli.rows(
        "SELECT json_extract(planned, '$.recipe.prompt_sha256'), json_extract(planned, '$.recipe.nonce'), tokens"
        " FROM needle_trials WHERE number = 2"
    )
    assert (prompt["prompt_sha256"], prompt["tokens"]) == (sha256, tokens)
    assert nonce in prompt["messages"][0]["content"]
    assert prompt["requests"][0]["outcome"] == "correct"
    assert len(prompt["requests"][0]["nonce"]) == 16


@LONG
@pytest.mark.parametrize("more", [("--rate", "40/s"), ("--workers", "2"), ("--concurrency", "3")])
def test_any_load_carries_trials(cli: Cli, more: tuple[str, ...]) -> None:
    done = cli.run(*SMALL, "--json", *more)
    assert done.code == 0, done.err
    assert block(done.summary)["lengths"][0]["correct"] == 4
    assert cli.rows("SELECT COUNT(DISTINCT prompt_id) FROM samples") == [(6,)]


@LONG
def test_a_budget_ends_between_rounds_and_the_rest_is_resumed(cli: Cli) -> None:
    tight(cli, {"requests": 600})
    done = cli.run("needle", "tight.yaml", "--budget", "requests=6,tokens=1M", "--json")
    assert done.code == 96, done.err
    assert "enough for 2 of 3 rounds, 6 of 9 trials" in done.err
    assert done.summary["run"]["state"] == "partial"
    first = done.summary["run"]["id"]
    assert block(done.summary)["lengths"][0]["answered"] == 4
    more = cli.run("needle", "--resume", "latest", "--json")
    assert more.code == 0, more.err
    assert more.summary["run"]["resumes"] == first
    assert more.summary["validity"]["sent"] == 3
    assert block(more.summary)["lengths"][0]["answered"] == 6
    assert f"goes on with run {first}" in cli.here("report").out
    sent = cli.rows("SELECT prompt_id FROM samples")
    assert len(sent) == len(set(sent)) == 9
    nothing = cli.here("needle", "--resume", "latest")
    assert (nothing.code, "all 9 trials are finished" in nothing.err) == (2, True)


@LONG
def test_what_an_interrupted_run_did_not_send_is_resumed(cli: Cli) -> None:
    running = cli.start(*SMALL, "--blocks", "20", "--concurrency", "1")
    wait_until(lambda: cli.rows("SELECT 1 FROM needle_answers LIMIT 1"))
    running.signal(signal.SIGINT)
    assert running.wait().code == 130
    ((before,),) = cli.rows("SELECT COUNT(*) FROM needle_answers WHERE outcome = 'correct'")
    done = cli.run("needle", "--resume", "latest", "--concurrency", "20", "--json")
    assert done.code == 0, done.err
    assert block(done.summary)["lengths"][0]["correct"] == 40
    ((after,),) = cli.rows("SELECT COUNT(*) FROM needle_answers WHERE outcome = 'correct'")
    assert (before < after, after) == (True, 56)


@LONG
def test_what_a_killed_run_had_answered_is_graded_when_it_is_recovered(cli: Cli) -> None:
    running = cli.start(*SMALL, "--blocks", "20", "--concurrency", "1")
    wait_until(lambda: cli.rows("SELECT 1 FROM needle_answers LIMIT 1"))
    cli.end()
    running.process.wait()
    done = cli.here("runs", "recover")
    assert done.code == 0, done.err
    ((ok,),) = cli.rows("SELECT COUNT(*) FROM samples WHERE outcome = 'ok'")
    assert cli.rows("SELECT COUNT(*) FROM needle_answers WHERE outcome = 'correct'") == [(ok,)]
    assert "needle: constant at 1k tokens" in done.out


@LONG
def test_two_needle_runs_are_compared_like_any_others(cli: Cli) -> None:
    for window in ("peak", "offpeak"):
        assert cli.run(*SMALL, "--window", window).code == 0
    first, second = (name for (name,) in cli.rows("SELECT id FROM runs ORDER BY started_at, rowid"))
    done = cli.here("compare", first, second)
    assert done.code in (0, 98), done.err
    assert "TTFT" in done.out


@LONG
def test_models_of_one_run_are_held_against_each_other(cli: Cli) -> None:
    """The same trials to both: a model that guesses finds less, and the report says so."""
    path = tight(cli, {"requests": 200}, blocks=12, absent="0%")
    data = json.loads(path.read_text())
    (good,) = data["endpoints"]
    guesses = good | {"name": "guesses", "headers": {"x-sim-needle-model": "random"}}
    path.write_text(json.dumps(data | {"endpoints": [good, guesses]}))
    done = cli.run("needle", "tight.yaml", "--json")
    assert done.code == 0, done.err
    (found,) = done.summary["steps"][0]["needle_pairs"]
    assert (found["first"], found["second"], found["kind"], found["pairs"]) == ("sim", "guesses", "constant", 24)
    assert (found["better"], found["only_second"]) == ("sim", 0)
    assert found["p"] < 0.05
    said = "sim against guesses, constant: of 24 trials that both answered, sim alone was right in"
    assert said in " ".join(cli.here("report").out.split())
    assert "- sim against guesses, constant: of 24 trials" in cli.here("report", "--format", "markdown").out


@LONG
def test_a_quiet_step_tells_what_reading_takes_and_each_step_has_its_table(cli: Cli) -> None:
    path = tight(cli, {"requests": 600}, blocks=10, absent="0%", scale=1.0)
    loads = [{"shape": "closed", "concurrency": many, "requests": 6} for many in (1, 3)]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"load": loads}))
    done = cli.run("needle", "tight.yaml")
    assert done.code == 0, done.err
    assert "needle: constant at 1k tokens, step 0" in done.out
    assert "needle: constant at 1k tokens, step 1" in done.out
    assert "answered unread" not in done.out


@LONG
def test_thresholds_fail_on_what_is_surely_too_little(cli: Cli) -> None:
    flags = ("--sim-model", "random", "--blocks", "30", "--concurrency", "30")
    done = cli.run(*SMALL, *flags, "--json", "--threshold", "needle certified >= 1k")
    assert done.code == 99, done.err
    assert done.summary["thresholds"][0]["value"] == 0


# --- before anything is sent ------------------------------------------------------------------------------------------


def test_the_plan_of_a_scenario_with_trials(cli: Cli) -> None:
    tight(cli, {"usd": 100})
    done = cli.here("plan", "tight.yaml")
    assert done.code == 0, done.err
    assert "at most 9 requests" in done.out
    assert "constant at 1k: 6 trials" in done.out
    document = json.loads(cli.here("plan", "tight.yaml", "--json").out)
    assert document["needle"][0]["powered"] is False
    tight(cli, {"requests": 3})
    assert "enough for 1 of 3 rounds, 3 of 9 trials" in " ".join(cli.here("plan", "tight.yaml").out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("needle", "--depths", "10"), "--depths: a bare number; write 10%"),
        (("needle", "--kinds", "bug,chian"), 'did you mean "chain"?'),
        (("needle", "--lengths", "2M"), "must be from 1k to 1M tokens"),
        (("needle", "quickstart"), "has no section needle"),
        (("needle", "--haystack", "nowhere"), "--haystack: nowhere: no such folder"),
        (("needle", "--budget", "requests"), "'requests' is not KEY=VALUE"),
        (("needle", "--budget", "requests=none"), "--budget: requests: not a size"),
        (("needle", "--budget", "usd=little"), "--budget: usd: must be a number"),
        (("needle", "--budget", "usd=5"), "needs a price of every endpoint, and sim has none"),
        (("needle", "--budget", "dollars=5"), "--budget: dollars: unknown key"),
        (("needle", "--budget", "requests=3"), "--budget: not enough for one round of 7 trials"),
        (("needle", "--resume", "latest", "--blocks", "3"), "leave out what would change the trials"),
        (("run", "tight.yaml", "--prompts", "own.jsonl"), "--prompts: not with needle"),
        (("run", "tight.yaml", "--join", "1", "--listen", "127.0.0.1:5557"), "sent from this machine only"),
        (("run", "quickstart", "--threshold", "needle certified >= 4k"), "the scenario sends no needle trials"),
    ],
)
def test_what_cannot_be_is_refused(cli: Cli, words: tuple[str, ...], said: str) -> None:
    tight(cli, {"requests": 100})
    cli.prompts()
    done = cli.here(*words)
    assert (done.code, said in done.err) == (2, True), done.err


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"budget": {"requests": 2}}, "not enough for one round of 3 trials"),
        ({"budget": {"tokens": 2000}}, "not enough for one round of 3 trials"),
        ({"prompts": {"pack": "code-mix"}}, "prompts: not with needle"),
        ({"repeat": 2}, "repeat: only 1 with needle"),
        ({"output": {"mode": "json_schema"}}, "output.mode: only text with needle"),
        ({"load": {"shape": "sessions", "turns": 2, "rate": "1/s", "requests": 3}}, "sessions has conversations"),
    ],
)
def test_what_does_not_go_together(cli: Cli, keys: dict[str, Any], said: str) -> None:
    path = tight(cli, {"requests": 100})
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    done = cli.here("needle", "tight.yaml")
    assert (done.code, said in done.err) == (2, True), done.err


def test_code_of_the_users_own_leaves_the_machine_only_if_they_agree(cli: Cli) -> None:
    cli.write("mine/part.py", "def add(left, right):\n    return left + right\n" * 40)
    done = cli.here("needle", "--haystack", "mine", "--url", "https://model.example.com/v1", "--model", "m")
    assert done.code == 2
    assert "bytes of code from 1 files below" in done.err
    assert "would leave this machine for model.example.com" in done.err
    assert "--send-code" in done.err


def test_other_runs_have_nothing_to_resume_or_rebuild(cli: Cli) -> None:
    done = cli.here("needle", "--rebuild", "latest", "0")
    assert (done.code, "there is no store here" in done.err) == (2, True)
