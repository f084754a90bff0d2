"""Writes grafana/.env, which compose reads: a password for Grafana and the secret of master and workers.

What is there is kept. The file is for its owner's eyes only.
"""

import os
import secrets
from pathlib import Path

FILE = Path(__file__).parent / ".env"


def main() -> None:
    """Write the file, unless there is one."""
    try:
        descriptor = os.open(FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{FILE} is there: kept")
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(f"GRAFANA_PASSWORD={secrets.token_urlsafe(24)}\nLATBENCH_SECRET={secrets.token_urlsafe(32)}\n")
    print(f"{FILE} is written: user latbench, password in GRAFANA_PASSWORD")


if __name__ == "__main__":
    main()
