"""Executes studies; alone touches disks, clusters and trackers."""
