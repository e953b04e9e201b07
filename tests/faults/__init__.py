"""Crashes, faults, races and hostile data, on every backend; `python -m tests.faults.soak` does more of the same."""
