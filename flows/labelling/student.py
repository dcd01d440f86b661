"""Stage ``student`` of a run: trains on the run's masks and predicts a split."""

from __future__ import annotations

from flows.context import RunContext
from flows.planning.plan import Job
from flows.planning.receipts import Outcome


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Trains the student of the configuration and writes its predictions."""
    from flows.training.train import train_and_predict

    outcome.counts.update(train_and_predict(context, context.prediction_split()))
