"""The test cases, a module for each area of the contract."""
