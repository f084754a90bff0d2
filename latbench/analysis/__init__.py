"""What the samples of a run amount to: order statistics, the verdict on the run, and `summary.json`."""
