"""Locust's side: the bridge in each worker and the coordinator at the master. The only room that imports Locust."""
