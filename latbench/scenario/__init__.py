"""Scenario files and prompts, validated and turned into the plain records of `model`. Reads files, nothing else."""
