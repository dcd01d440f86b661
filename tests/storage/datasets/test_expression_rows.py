"""Rows of tables: what is read, what costs one row, and what ends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import InputError
from storage.datasets.expression_rows import FILES, Row, read_rows

VALUES = {"video": "dog.mp4", "text": "the dog, left", "expression_id": "a", "start": 1.5, "end": 3}


def _write(folder: Path, name: str) -> Path:
    path = folder / name
    if name.endswith("csv"):
        path.write_text("\ufeffVideo,text ,expression_id,start,end\r\ndog.mp4,"
                        '"the dog, left",a,1.5,3\r\n\r\n')  # fmt: skip
    elif name.endswith("tsv"):
        path.write_text("\t".join(VALUES) + "\n" + "\t".join(map(str, VALUES.values())))
    else:
        text = json.dumps(VALUES)
        path.write_text(f"\n{text}\n" if name.endswith("jsonl") else f"[{text}]")
    return path


@pytest.mark.parametrize("name", FILES)
def test_every_form_gives_the_same_row(tmp_path: Path, name: str) -> None:
    [row] = read_rows(_write(tmp_path, name))
    number = 2 if name[-3:] in ("csv", "tsv") or name.endswith("jsonl") else 1
    assert row == Row(number, "dog.mp4", "the dog, left", "a", 1.5, 3.0)


@pytest.mark.parametrize("box", ["1 2 3.5 4", "1, 2, 3.5, 4", [1, 2, 3.5, 4]])
def test_a_box_is_four_numbers(tmp_path: Path, box: object) -> None:
    path = tmp_path / "expressions.json"
    path.write_text(json.dumps([{"video": "v", "text": "t", "frame": 7, "box": box}]))
    [row] = read_rows(path)
    assert (row.frame, row.box) == ("7", (1.0, 2.0, 3.5, 4.0))


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("expressions.csv", "video,sentence\na,b\n", "no column text; its first row is"),
        ("expressions.csv", "", "no column video and no column text"),
        ("expressions.csv", "video,text\n", "no rows"),
        ("expressions.csv", "video,text\na,b\n,c\n", "row 3: no video"),
        ("expressions.json", "{}", "a dict; expected a JSON list"),
        ("expressions.json", "[1]", "row 1 is a int"),
        ("expressions.jsonl", '{"video": "a", "text": "b"}\n{', "row 2: no JSON"),
        ("expressions.json", '[{"video": "a"}]', "row 1 has no text"),
    ],
)
def test_a_file_without_its_columns_is_refused(
    tmp_path: Path, name: str, content: str, found: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_rows(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("a,b,soon,,,", "row 2: start is 'soon'"),
        ("a,b,nan,,,", "row 2: start is 'nan'"),
        ("a,b,-1,,,", "row 2: start is '-1'"),
        ("a,b,3,2,,", "row 2: end 2 with start 3"),
        ("a,b,,,4,", "row 2: a frame without a box"),
        ("a,b,,,,1 2 3 4", "row 2: a box without a frame"),
        ("a,b,,,4,1 2 3", "row 2: box is '1 2 3'"),
        ("a,b,,,4,3 2 1 4", "row 2: box is"),
        ("a,the dog, left,,,,on it", "row 2: more values than columns"),
    ],
)
def test_a_wrong_value_costs_its_row_alone(tmp_path: Path, row: str, found: str) -> None:
    path = tmp_path / "expressions.csv"
    path.write_text(f"video,text,start,end,frame,box\n{row}\nc,d,,,,\n")
    wrong, right = read_rows(path)
    assert found in str(wrong.problem)
    assert right.problem is None
    assert (wrong.video, right.video) == ("a", "c")
