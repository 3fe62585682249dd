"""Every metric of image_metrics.tsv is best for identical images and says its unit, direction and source."""

from __future__ import annotations

import pytest

from contract_checks import check_metric
from relapet.evaluation.scores.image_metrics import METRICS


@pytest.mark.parametrize("name", list(METRICS))
def test_metric(name: str) -> None:
    assert METRICS[name].name == name
    check_metric(METRICS[name])


def test_titles_are_unique() -> None:
    titles = [metric.title for metric in METRICS.values()]
    assert len(set(titles)) == len(titles)
