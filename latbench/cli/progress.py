"""What a person watches during a run: one block that is redrawn, on a terminal only, on standard error."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from latbench.metrics.recorder import LiveView
from latbench.model.load import Step


class Progress:
    """A context around a run; `show` redraws."""

    def __init__(self, steps: Sequence[Step], *, quiet: bool) -> None:
        self._steps = steps
        console = Console(stderr=True, highlight=False)
        wanted = console.is_terminal and not quiet
        self._live = Live(console=console, auto_refresh=False, transient=True) if wanted else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def shown(self) -> bool:
        """Whether anybody watches."""
        return self._live is not None

    def show(self, view: LiveView) -> None:
        """Draw a view."""
        if self._live is not None:
            self._live.update(Text("\n".join(lines(view, self._steps))), refresh=True)


def lines(view: LiveView, steps: Sequence[Step]) -> list[str]:
    """The block for a view: the step and what is under way, the rates of the last ten seconds, the outcomes so far."""
    step = steps[view.step]
    ends = [] if step.requests is None else [f"{step.requests} {step.arrive}"]
    ends += [] if step.duration_ns is None else [f"{(step.warmup_ns + step.duration_ns) / 1e9:g} s"]
    turns = "" if step.slice_ns is None else f" each, in turns of {step.slice_ns / 1e9:g} s"
    total = view.total
    outcomes = "  ".join(f"{name} {count}" for name, count in sorted(total.outcomes.items()))
    return [
        f"step {view.step + 1}/{len(steps)}  {step.words}, {' or '.join(ends)}{turns}"
        f"   {view.now_ns / 1e9:.0f} s   in flight {view.in_flight}",
        f"{total.requests_per_s:.1f} requests/s   {total.output_tokens_per_s:.0f} tokens/s   "
        f"TTFT p50 {_ms(total.ttft_p50_ms)}  p95 {_ms(total.ttft_p95_ms)}",
        outcomes or "waiting for the first answer",
    ]


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"
