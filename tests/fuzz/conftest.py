"""The profile of `make fuzz`: here, because it must be known before any test is read."""

from hypothesis import settings

settings.register_profile("fuzz", max_examples=10_000)
