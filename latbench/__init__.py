"""latbench: a load and latency benchmark for LLM endpoints."""

__version__ = "0.1.0"
