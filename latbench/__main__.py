"""`python -m latbench` is the `latbench` command."""

from latbench.cli.main import main

if __name__ == "__main__":
    main()
