"""The formats for machines."""

import csv
import io
import json
import math
from typing import Any

import pytest

from latbench.analysis.groups import PromptInfo
from latbench.model.sample import Sample
from latbench.report import csv as report_csv
from latbench.report import json as report_json


def rows_of(samples: list[Sample], prompts: dict[str, PromptInfo]) -> list[dict[str, str]]:
    out = io.StringIO()
    report_csv.render(samples, prompts, out)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def test_json_is_the_summary_and_the_same_bytes_each_time(one_step: dict[str, Any]) -> None:
    first, second = io.StringIO(), io.StringIO()
    report_json.render(one_step, first)
    report_json.render(json.loads(first.getvalue()), second)
    assert json.loads(first.getvalue()) == one_step
    assert first.getvalue() == second.getvalue()
    assert first.getvalue().isascii()
    assert first.getvalue().count("\n") == 1, "indentation would be most of the file"
    assert "\x1b" not in first.getvalue()


def test_json_refuses_what_is_no_figure() -> None:
    with pytest.raises(ValueError, match="JSON"):
        report_json.render({"x": math.nan}, io.StringIO())


def test_csv_has_a_row_for_each_sample_with_units_in_the_head(
    samples: list[Sample], prompts: dict[str, PromptInfo]
) -> None:
    rows = rows_of(samples, prompts)
    assert len(rows) == len(samples)
    assert tuple(rows[0]) == report_csv.HEADER
    first, sample = rows[0], samples[0]
    assert (first["task"], first["prompt_tokens"], first["new_connection"]) == ("generation", "0", "false")
    assert sample.first_token_ns is not None
    assert sample.sent_ns is not None
    assert int(first["first_token_ns"]) == sample.first_token_ns
    assert float(first["ttft_ms"]) == (sample.first_token_ns - sample.sent_ns) / 1e6
    assert rows[-1]["outcome"] == "malformed"
    assert (rows[-1]["ttft_ms"], rows[-1]["sent_ns"]) == ("", "")


def test_csv_gives_metrics_of_ok_samples_only() -> None:
    cut = Sample("e", 0, 0, "p", "measure", "truncated", sent_ns=0, first_token_ns=5, last_token_ns=9)
    row = rows_of([cut], {})[0]
    assert (row["ttft_ms"], row["first_token_ns"], row["task"]) == ("", "5", "")


@pytest.mark.parametrize("text", ["=cmd()", "+1", "-1", "@x", "  =1", "\t=1", "\n@x"])
def test_csv_is_safe_in_a_spreadsheet(text: str) -> None:
    row = rows_of([Sample("e", 0, 0, "p", "measure", "http_error", error_message=text, due_ns=-5)], {})[0]
    assert row["error_message"].startswith("'")
    assert row["error_message"].endswith(text.strip())
    assert row["due_ns"] == "-5"


def test_csv_keeps_odd_text_in_its_cell() -> None:
    text = 'a "quoted", text, of "one" line'
    assert (
        rows_of([Sample("e", 0, 0, "p", "measure", "http_error", error_message=text)], {})[0]["error_message"] == text
    )


def test_csv_sends_no_control_characters_to_a_terminal() -> None:
    sample = Sample("e", 0, 0, "p", "measure", "http_error", error_message="\x1b[2Jgone\x07")
    (row,) = rows_of([sample], {})
    assert "gone" in row["error_message"]
    assert "\x1b" not in row["error_message"]
    assert "\x07" not in row["error_message"]
