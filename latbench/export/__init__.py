"""What dashboards read: snapshots written for Prometheus and for those who speak its formats."""
