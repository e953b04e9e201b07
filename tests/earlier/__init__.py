"""A store of each backend as an earlier version wrote it: this version reads all of it, and goes on.

A folder for each version holds the stores. They are never written again: `python -m tests.earlier.write` makes those of
a version that is about to be released (CONTRIBUTING.md).
"""
