"""What several boards say alike."""

from panels import RUN, quantile

VERDICT = (("0", "valid", "green"), ("1", "suspect", "orange"), ("2", "INVALID", "red"))
SENT = ', outcome!="dropped"'
OK = ', outcome="ok"'
FAILED = ', outcome!~"ok|dropped|cancelled"'
REQUESTS = "latbench_requests_total"
RANGE = {"over": "$__range", "how": "increase"}


def percentiles(metric: str, *levels: float, by: str = "endpoint") -> list[tuple[str, str]]:
    return [(quantile(metric, level, by), f"{{{{{by}}}}} p{level * 100:g}") for level in levels]


def slo(metric: str) -> tuple[str, str]:
    return f'max by (type) (latbench_slo_seconds{{{RUN}, type="{metric}"}})', "SLO limit"
