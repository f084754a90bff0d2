"""Where a run is kept: the SQLite store and the run directory. No statistics, no printing."""
