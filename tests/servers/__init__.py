"""Real servers for tests and benchmarks, each for as long as a `with` block lasts."""
