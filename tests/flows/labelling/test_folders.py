"""A whole run over models in folders of transformers, tiny and random, and the demo grounder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from flows.context import RunContext
from flows.labelling.executor import InProcess, execute
from pipeline.config import load_config
from stages.segment.architecture import build_demo
from storage.arrays.candidates import StoredCandidates
from storage.run.ledger import Ledger
from tests.fakes.dataset import write_dataset
from tests.fakes.dual_encoders import write_encoder
from tests.fakes.sam_models import of_package, write_sam


def test_encoder_and_sam_come_from_folders(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", 1)
    torch.manual_seed(0)
    sam = write_sam(of_package(build_demo()), tmp_path / "sam")
    clip = write_encoder("clip", tmp_path / "clip")
    words = ["dataset.name=refytvos", f'dataset.root="{data}"', f'out="{tmp_path / "runs"}"']
    words += ["augment.similarity=encoder", f'augment.similarity_checkpoint="{clip}"']
    words += ["augment.minimum_similarity=0.1", "augment.siblings=false"]
    words += ["segment.model=transformers", f'segment.checkpoint="{sam}"']
    words += ["student.enabled=false", "device=cpu", "report.samples=1", "report.frames=1"]
    context = RunContext(load_config(None, words))
    context.plan = context.make_plan()
    assert not execute(context, InProcess(context)).failed
    ledger = Ledger(context.paths.folder)
    [augment], [segment] = ledger.receipts("augment"), ledger.receipts("segment")
    measured = sum(n for name, n in augment.counts.items() if name.startswith("similarity from"))
    assert measured > 0, "a paraphrase of the lexicon was measured"
    about = pq.read_schema(context.paths.part("augment", "00000")).metadata
    assert json.loads(about[b"pseudolabels.about"])["similarity"].startswith("cosine of clip (")
    assert segment.counts["masks"] > 0
    candidates = StoredCandidates(context.paths.candidates("00000"), "clip00")
    logits = np.concatenate([frame.logits.reshape(-1) for frame in candidates])
    assert np.isfinite(logits).all() and logits.std() > 0
    assert pq.read_table(context.paths.quality).num_rows == 2 * 5
    # What the weights are is part of what the products depend on.
    other = write_encoder("siglip", tmp_path / "other")
    again = [*words, f'augment.similarity_checkpoint="{other}"']
    plan = RunContext(load_config(None, again)).make_plan(remember=False)
    assert plan.pending("augment")
