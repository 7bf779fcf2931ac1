"""Read the metrics of a service."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

PREFIX = "traffic_analytics_"


class Samples:
    """Samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.all = {
            (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.all.get((name, frozenset(labels.items())))

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the samples that are not zero, by the values of the labels in their alphabetical order."""
        return {
            tuple(value for _, value in sorted(labels)): number
            for (each, labels), number in self.all.items()
            if each == name and number
        }

    def label_values(self) -> set[tuple[str, str, str]]:
        return {(name, *pair) for name, labels in self.all for pair in labels}


def scrape(service: Any, path: str = "/metrics", **headers: str) -> Samples:
    answer = service.client.get(path, headers=headers)
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    return Samples(answer.text)
