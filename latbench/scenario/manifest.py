"""Writes the manifest of a prompt pack: `python -m latbench.scenario.manifest FOLDER`.

What can be counted or hashed is made from the files; what only people know (name, version, licence, last review,
changelog, archive) is kept from the manifest that is there. `--check` writes nothing and exits with 1 if the manifest
is out of date.
"""

import argparse
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from latbench.model.errors import UserError
from latbench.model.request import Prompt
from latbench.scenario.files import read_yaml, shown
from latbench.scenario.prompts import read_pack
from latbench.scenario.tokens import count

LENGTH_BINS = ((500, "0-500"), (2_000, "500-2k"), (8_000, "2k-8k"), (16_001, "8k-16k"))
"""Input lengths in tokens: the first bound that a prompt lies below names its bin."""

_LONGER = "over 16k"
_OPENING = "# Made by `python -m latbench.scenario.manifest`: counts and hashes are written over, the rest is kept.\n"


def build(folder: Path, existing: dict[str, Any]) -> dict[str, Any]:
    """The manifest that the files of a pack have, with what people wrote taken from `existing`."""
    prompts = read_pack(folder)
    tokens = {prompt.id: count("\n".join(message.content for message in prompt.messages)) for prompt in prompts}
    written = {
        "name": folder.resolve().name,
        "version": "1.0.0",
        "licence": "Apache-2.0",
        "last_review": date.today().isoformat(),
        "changelog": [{"version": "1.0.0", "changes": "first issue"}],
        "archive": [],
    }
    made = {
        "counts": _counts(prompts, tokens),
        "context_files": _context_files(folder),
        "prompts": {prompt.id: {"sha256": prompt.sha256, "tokens": tokens[prompt.id]} for prompt in prompts},
    }
    return {key: existing.get(key, default) for key, default in written.items()} | made


def _counts(prompts: Sequence[Prompt], tokens: dict[str, int]) -> dict[str, Any]:
    lengths = Counter(length_bin(tokens[prompt.id]) for prompt in prompts)
    return {
        "prompts": len(prompts),
        "task": _sorted(prompt.task for prompt in prompts),
        "language": _sorted(prompt.language for prompt in prompts),
        "tier": _sorted(str(prompt.tier) for prompt in prompts if prompt.tier is not None),
        "input_length": {
            name: lengths[name] for name in (*(name for _, name in LENGTH_BINS), _LONGER) if lengths[name]
        },
    }


def length_bin(tokens: int) -> str:
    """The name of the bin of an input length."""
    return next((name for bound, name in LENGTH_BINS if tokens < bound), _LONGER)


def _sorted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _context_files(folder: Path) -> dict[str, dict[str, str]]:
    files = sorted(path for path in (folder / "context").rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in files
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 written or up to date, 1 out of date, 2 a mistake in the pack."""
    parser = argparse.ArgumentParser(
        prog="python -m latbench.scenario.manifest", description="Writes a pack's manifest."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if the manifest is out of date"
    )
    options = parser.parse_args(arguments)
    try:
        return _run(options.folder, check=options.check)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _run(folder: Path, *, check: bool) -> int:
    path = folder / "manifest.yaml"
    existing = read_yaml(path).data if path.is_file() else {}
    if not isinstance(existing, dict):
        raise UserError(f"{shown(path)}: must be a mapping; remove the file to begin anew")
    manifest = build(folder, existing)
    if check:
        if manifest != existing:
            print(
                f"{shown(path)}: out of date; run `python -m latbench.scenario.manifest {shown(folder)}`",
                file=sys.stderr,
            )
        return int(manifest != existing)
    text = _OPENING + yaml.safe_dump(manifest, sort_keys=False, default_flow_style=None, width=200, allow_unicode=True)
    temporary = path.with_suffix(".yaml.new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    print(f"{shown(path)}: {manifest['counts']['prompts']} prompts, {len(manifest['context_files'])} context files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
