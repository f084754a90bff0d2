"""What to do about an endpoint that was stopped: held against the words that the guard really says."""

from typing import Any

import pytest

from latbench.analysis.stopped import remedy
from latbench.model.request import Endpoint
from latbench.model.sample import Sample
from latbench.plan.guards import EndpointGuard


def endpoint(*variables: str) -> Endpoint:
    return Endpoint("e", "p", "openai-chat", "http://127.0.0.1:9/v1", "m", api_key_env=variables)


def stopped(outcome: str, **fields: Any) -> str:
    """Why the guard stops an endpoint that answers nothing else."""
    guard = EndpointGuard(abort_on_errors=True)
    for number in range(100):
        why = guard.add(Sample("e", 0, number, "p", "warmup", outcome, done_ns=number, **fields))
        if why is not None:
            return why
    raise AssertionError("it was not stopped")


@pytest.mark.parametrize(
    ("outcome", "fields", "advice"),
    [
        ("auth_error", {"status": 401}, "check the variable that api_key_env names: OPENAI_API_KEY"),
        ("auth_error", {"status": 403}, "check the variable that api_key_env names: OPENAI_API_KEY"),
        ("invalid_request", {"status": 404}, "check model and where base_url ends, see docs/providers.md"),
        ("quota_exhausted", {"status": 402}, "check the account at the provider"),
        ("http_error", {"status": 500}, "see what it said of them; --no-abort goes on"),
        ("connect_error", {}, "see what it said of them; --no-abort goes on"),
    ],
)
def test_each_reason_to_stop_has_its_advice(outcome: str, fields: dict[str, Any], advice: str) -> None:
    assert remedy(stopped(outcome, **fields), endpoint("OPENAI_API_KEY")).startswith(advice)


def test_a_key_or_a_model_that_a_400_is_about() -> None:
    key = stopped("invalid_request", status=400, error_code="invalid_api_key")
    model = stopped("invalid_request", status=400, error_code="model_not_found")
    assert remedy(key, endpoint("A")).startswith("check the variable")
    assert remedy(model, endpoint("A")).startswith("check model")


def test_credentials_of_several_variables_and_of_none() -> None:
    why = stopped("auth_error", status=401)
    assert remedy(why, endpoint("A", "B")) == "check the variables that api_key_env names: A, B"
    assert remedy(why, endpoint()).startswith("api_key_env names no variable with a key")


def test_a_reason_that_is_not_known_here_points_at_what_was_said() -> None:
    assert remedy("enough", endpoint()) == "see what it said"
