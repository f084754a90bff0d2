"""The summary as one JSON document: the same summary gives the same bytes.

Only ASCII is written, so that nothing an endpoint said can reach a terminal as a control sequence. NaN and infinity are
refused: a figure that does not exist is null. Nothing is indented: that would be most of the bytes.
"""

import json
from collections.abc import Mapping
from typing import Any, TextIO


def render(summary: Mapping[str, Any], out: TextIO) -> None:
    """Write the summary. Raises ValueError for a figure that JSON cannot hold."""
    out.write(json.dumps(summary, separators=(",", ":"), allow_nan=False) + "\n")
