"""Measurements that are too slow or too machine-bound for the tests: `python -m benchmarks.NAME`."""
