"""The one reason to stop: something is not as it must be to be compared."""


class BenchmarkFailed(Exception):
    """What was, or would be, measured is not what it is taken for. The message says it all."""
