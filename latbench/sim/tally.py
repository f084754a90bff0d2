"""What really happened: the figures of `/sim/stats`."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Tally:
    """What became of the requests. `requests` = `ok` + `errors` + `disconnected` + those still open.

    `errors` are refusals, rate limits and faults; `limited` counts the rate limits among them by kind, `faults` the
    faults, `needle` the answers to needle trials by what they are worth. `tokens_out` has every token that was sent,
    reasoning and tool calls included.
    """

    requests: int = 0
    ok: int = 0
    errors: int = 0
    disconnected: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens_out: int = 0
    reasoning_tokens: int = 0
    tool_calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    limited: Counter[str] = field(default_factory=Counter)
    needle: Counter[str] = field(default_factory=Counter)

    @property
    def open(self) -> int:
        """Requests whose fate is not known yet: being read, in line, or being answered."""
        return self.requests - self.ok - self.errors - self.disconnected

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "requests": self.requests,
            "ok": self.ok,
            "errors": self.errors,
            "disconnected": self.disconnected,
            "open": self.open,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "tokens_out": self.tokens_out,
            "reasoning_tokens": self.reasoning_tokens,
            "tool_calls": self.tool_calls,
            "faults": dict(self.faults),
            "limited": dict(self.limited),
            "needle": dict(self.needle),
        }
