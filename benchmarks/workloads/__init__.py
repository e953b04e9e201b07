"""What is run on every side: each module has one `run`."""
