"""Trusted: runs test cells, one process for each submission."""
