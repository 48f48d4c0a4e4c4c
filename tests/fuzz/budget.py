"""How much is tried: in the suite a fixed little, under the profile `fuzz` much, at random."""

from hypothesis import HealthCheck, settings

LONG = settings.get_current_profile_name() == "fuzz"
LONG_EXAMPLES = settings.get_profile("fuzz").max_examples


def budget(examples: int) -> settings:
    """These many examples in the suite, the same each time; in `make fuzz` as many as it says."""
    return settings(
        max_examples=LONG_EXAMPLES if LONG else examples,
        derandomize=not LONG,
        database=None,
        deadline=None,
        # One service for all examples is what is wanted: none may leave anything behind.
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
