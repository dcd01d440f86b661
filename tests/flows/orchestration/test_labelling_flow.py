"""The flow by itself, as a deployment or a notebook calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from storage.arrays.masks import MaskStore
from storage.run.ledger import Ledger
from tests.flows.conftest import Site

ROOT = Path(__file__).resolve().parents[3]

CALL = """
import sys

from flows.orchestration.labelling_flow import label
from tests.fakes.stages import fake_parts
from pathlib import Path
import flows.labelling.opened_run
parts = fake_parts(Path(sys.argv[3]))
flows.labelling.opened_run.Parts = lambda: parts
state = label(
    dataset="refytvos", root=sys.argv[1], out=sys.argv[2], return_state=True,
    overrides=[
        "augment.source=lexicon", "student.enabled=false", "shard_videos=2", "report.width=64",
    ],
)
print(state.name, "|", state.message)
"""


def test_the_flow_works_in_a_fresh_process_by_what_describes_a_run(site: Site) -> None:
    words = [str(site.data), str(site.out), str(site.weights)]
    done = subprocess.run(
        [sys.executable, "-c", CALL, *words],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Completed | 4 videos, 8 expressions: 36 of 40 frames have a mask" in done.stdout
    assert len(MaskStore(site.folder / "pseudomasks.zarr").videos()) == 4
    assert len(Ledger(site.folder).receipts("rank")) == 2
    assert not site.run().pending()
