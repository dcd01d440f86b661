from __future__ import annotations

import pytest

from flows.labelling.preflight import check_weights
from pipeline.config import load_config
from pipeline.errors import CheckpointError


def test_a_wrong_digest_is_found_before_the_work() -> None:
    config = load_config(None, ["segment.sha256=00", "augment.sha256=00"])
    with pytest.raises(CheckpointError, match=r"segment: sha256 .*expected sha256 00"):
        check_weights(config, {"augment", "segment"})
    # A stage that is done, and one without a model, need no weights.
    check_weights(config, {"augment", "ground"})
