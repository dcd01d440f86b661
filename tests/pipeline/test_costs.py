import math

import pytest

from pipeline.costs import Annotation, labelling_costs


def test_the_papers_figures() -> None:
    costs = {item.name.split(" (")[0]: item for item in labelling_costs([27, 27, 28] * 10)}
    full = costs["all masks"]
    # 27.3 annotated frames a target: 2157 s each.
    assert full.seconds / 30 == pytest.approx(27 * 79 + 79 / 3)
    assert costs["first mask and boxes"].times_less == pytest.approx(8.2, abs=0.1)
    assert costs["boxes"].times_less == pytest.approx(11.3, abs=0.1)
    assert costs["first mask alone"].times_less == pytest.approx(27.3, abs=0.1)
    assert costs["points"].times_less == pytest.approx(79 / 2.4)


def test_targets_that_never_show_cost_nothing() -> None:
    costs = labelling_costs([0, 2])
    bought = [(item.masks, item.boxes, item.points) for item in costs]
    assert bought == [(2, 0, 0), (1, 1, 0), (0, 2, 0), (1, 0, 0), (0, 0, 2), (0, 0, 0)]
    assert (costs[-1].seconds, costs[-1].times_less) == (0, math.inf)
    assert labelling_costs([])[0].seconds == 0


def test_the_words_say_what_there_is_and_what_time_it_takes() -> None:
    words = Annotation(24, 1200, 0).words
    assert words.startswith("Annotation: 24 masks, 1,200 boxes; 2.9 h of an annotator")
    assert "10 points; 0 min of" in Annotation(0, 0, 10).words
    assert "none; 0 min of" in Annotation(0, 0, 0).words
