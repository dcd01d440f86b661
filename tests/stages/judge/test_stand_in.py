import pytest

from pipeline.config import JudgeConfig
from pipeline.errors import ConfigError
from pipeline.judgements import JudgeRequest
from pipeline.types import SampleKey
from stages.judge import load_judge


def test_the_stand_in_takes_the_track_that_the_sentence_scores_highest() -> None:
    judge = load_judge(JudgeConfig(source="stand_in"), None, 0)
    assert not judge.needs_frames and "stand-in" in judge.provenance.model
    key = SampleKey("d", "s", "v", "0")
    sure = JudgeRequest(key, "a", (), (2, 1), (0.8, 0.3))
    close = JudgeRequest(key, "a", (), (1, 2), (0.5, 0.49))
    nothing = JudgeRequest(key, "a", (), (1, 2), (0.1, 0.05))
    first, second, third = judge.ask([sure, close, nothing])
    assert (first.text, first.chosen) == ("2", (2,))
    assert first.probability == pytest.approx(1.0, abs=0.01)
    assert second.chosen == (1,) and second.probability == pytest.approx(0.55, abs=0.01)
    assert (third.text, third.chosen) == ("0", ())
    with pytest.raises(ConfigError, match=r"judge\.source is 'none'"):
        load_judge(JudgeConfig(), None, 0)
