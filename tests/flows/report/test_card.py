"""The data card of a run."""

from __future__ import annotations

import json

from flows.integrity.contents import Contents
from flows.integrity.verify import verify
from flows.report.card import _licence
from pipeline.fingerprint import file_digest
from tests.flows.conftest import Site


def test_the_card_tells_counts_models_quality_failures_and_settings(ran: Site) -> None:
    text = (ran.folder / "report" / "card.md").read_text()
    assert "8 samples (an expression of a video each), 40 frames" in text
    assert "4 frames absent: no box claims it" in text
    assert f"SHA-256 {file_digest(ran.weights)}" in text or "SHA-256 " in text
    assert "J&F: " in text and "[ground]" in text
    assert "Demo models" in text and str(ran.data) not in text.split("## Configuration")[0]


def test_the_croissant_file_names_the_table_and_its_columns(ran: Site) -> None:
    found = json.loads((ran.folder / "report" / "croissant.json").read_text())
    assert found["conformsTo"].endswith("croissant/1.0")
    table = found["distribution"][0]
    assert table["sha256"] == file_digest(ran.folder / table["contentUrl"])
    [records] = found["recordSet"]
    assert [item["name"] for item in records["field"]][:3] == ["video", "expression", "frame"]
    assert {item["dataType"] for item in records["field"]} == {
        "sc:Text",
        "sc:Integer",
        "sc:Float",
    }


def test_the_card_is_a_part_of_the_report_that_verify_checks(ran: Site) -> None:
    assert not list(verify(ran.folder, Contents()))
    (ran.folder / "report" / "card.md").write_text("changed")
    [problem] = verify(ran.folder, Contents())
    assert problem.path.name == "card.md"


def test_licences_are_those_of_published_weights() -> None:
    assert _licence("demo:ground") == "Apache-2.0, as this project"
    assert _licence("/weights/sam_vit_b_01ec64.pth") == "Apache-2.0"
    assert _licence("own.pth") == "not known here"
