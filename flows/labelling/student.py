"""Stage ``student`` of a run: trains on the run's masks and predicts a split."""

from __future__ import annotations

from flows.context import Workshop
from flows.planning.plan import Job
from flows.planning.receipts import Outcome


def run(job: Job, shop: Workshop, outcome: Outcome) -> None:
    """Trains the student of the configuration and writes its predictions."""
    from flows.training.train import train_and_predict

    outcome.counts.update(train_and_predict(shop, shop.prediction_split()))
