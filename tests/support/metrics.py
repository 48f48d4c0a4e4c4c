"""Metrics, read as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families

Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Found:
    """Every sample by its name and labels; none may be there twice."""
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "what belongs to one name stands together"
    samples = [sample for family in families for sample in family.samples]
    found = {(each.name, frozenset(each.labels.items())): each.value for each in samples}
    assert len(found) == len(samples)
    return found


def total(found: Found, name: str, **labels: str) -> float:
    """The sum over what bears these labels."""
    wanted = labels.items()
    return sum(value for (each, has), value in found.items() if each == name and wanted <= has)
