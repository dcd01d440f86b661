import math

import pytest

from pipeline.costs import labelling_costs


def test_the_papers_figures() -> None:
    costs = {item.name.split(" (")[0]: item for item in labelling_costs([27, 27, 28] * 10)}
    full = costs["all masks"]
    # 27.3 annotated frames a target: 2157 s each.
    assert full.seconds / 30 == pytest.approx(27 * 79 + 79 / 3)
    assert costs["first mask and boxes"].times_less == pytest.approx(8.2, abs=0.1)
    assert costs["boxes"].times_less == pytest.approx(11.3, abs=0.1)
    assert costs["first mask alone"].times_less == pytest.approx(27.3, abs=0.1)


def test_targets_that_never_show_and_views_without_a_figure() -> None:
    costs = labelling_costs([0, 2])
    assert [(item.masks, item.boxes) for item in costs[:3]] == [(2, 0), (1, 1), (0, 2)]
    assert math.isnan(costs[-2].seconds)
    assert (costs[-1].seconds, costs[-1].times_less) == (0, math.inf)
    assert labelling_costs([])[0].seconds == 0
