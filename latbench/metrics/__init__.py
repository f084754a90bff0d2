"""What is computed from samples: the catalogue of metrics, the histogram that merges, the live recorder."""
