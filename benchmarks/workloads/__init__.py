"""The workloads that run on every side. Each module has one function `run`."""
