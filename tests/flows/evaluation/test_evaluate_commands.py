from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks.data.object_store import put_folder
from flows.evaluation.coco_queries import evaluate_queries, truth_of_queries
from flows.evaluation.davis import evaluate_davis, evaluate_refdavis
from flows.evaluation.expressions import evaluate_expressions, temporal_overlap
from flows.evaluation.result import Result, present
from pipeline.coco import encode_rle
from pipeline.errors import InputError
from pipeline.metrics import contour_accuracy, overlap_figures, region_similarity
from pipeline.store_urls import local_place
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from storage.files.images import png_of_scores, read_scores
from tests.storage.datasets import trees
from tests.storage.datasets.test_contract import BUILDERS


def write_png(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def submission(root: Path, expressions: dict[str, int], top: str = "Annotations") -> Path:
    """The true masks as a submission: expression -> object."""
    for name, number in expressions.items():
        for frame, frame_name in enumerate(trees.FRAMES):
            path = root / top / "clip" / name / f"{frame_name}.png"
            write_png(path, 255 * trees.object_mask(number, frame))
    return root


@pytest.mark.parametrize("task", ["semi-supervised", "unsupervised"])
@pytest.mark.parametrize("name", ["exact", "swap", "noisy", "drop_last"])
def test_davis_figures_agree_with_the_official_code(real_data: Path, task, name) -> None:  # type: ignore[no-untyped-def]
    folder = real_data / "metrics"
    expected = json.loads((folder / "expected_rvos.json").read_text())["davis"][f"{task}/{name}"]
    root = folder / "mock_davis"
    result = evaluate_davis(root / f"res_{name}", root, task)
    system, ids = ("matched", "matched") if task == "unsupervised" else ("fixed ids", "fixed")
    got = result.systems[system]
    assert result.problems == []
    for key, value in got.items():
        assert value == pytest.approx(expected[key], abs=1e-9), key
    rows = [row for row in result.expressions if row["ids"] == ids]
    for metric, values in expected["per_object"].items():
        mine = {f"{row['sequence']}_{row['object']}": row[metric] for row in rows}
        assert mine == pytest.approx(values, abs=1e-9)
    if task == "unsupervised" and name == "swap":
        assert result.systems["fixed ids"]["J&F"] == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["3q_random_scores", "1q_random_scores", "1q_const_score"])
def test_a2d_figures_agree_with_the_official_code(real_data: Path, name: str) -> None:
    folder = real_data / "metrics"
    expected = json.loads((folder / "expected_rvos.json").read_text())["a2d"][name]
    result = evaluate_queries(
        folder / f"a2d_pred_{name}.json", "a2d", folder / f"a2d_gt_{name}.json", None
    )
    got = {
        key.replace(" IoU", "_iou"): value
        for key, value in result.systems["predictions"].items()
        if key not in ("J&F", "J", "F")
    }
    assert got == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """A DAVIS tree of one sequence with two objects, and a result that equals it."""
    for frame in range(5):
        ids = trees.index_mask(frame % 2)
        for folder in ("Annotations/480p", "Annotations_unsupervised/480p", "result"):
            trees.write_mask(tmp_path / folder / "clip" / f"{frame:05d}.png", ids)
    sets = tmp_path / "ImageSets/2017/val.txt"
    sets.parent.mkdir(parents=True)
    sets.write_text("clip\n")
    return tmp_path


def test_a_missing_frame_counts_as_an_empty_one_and_is_named(davis: Path) -> None:
    (davis / "result/clip/00002.png").unlink()
    result = evaluate_davis(davis / "result", davis, "semi-supervised")
    assert result.systems["fixed ids"]["J-Mean"] == pytest.approx(2 / 3)
    assert result.problems == ["clip/00002: missing"]
    # The first and the last frame do not count, so nobody misses them.
    (davis / "result/clip/00000.png").unlink()
    again = evaluate_davis(davis / "result", davis, "semi-supervised")
    assert again.problems == ["clip/00002: missing"]


def test_surplus_ids_missing_sequences_and_other_sizes_are_named(davis: Path) -> None:
    ids = trees.index_mask(0)
    ids[0, 0] = 9
    trees.write_mask(davis / "result/clip/00001.png", ids)
    trees.write_mask(davis / "result/clip/00002.png", ids[:-1])
    result = evaluate_davis(davis / "result", davis, "semi-supervised")
    assert "23 x 32" in result.problems[0]
    assert "ids up to 9" in result.problems[1]
    shutil.rmtree(davis / "result/clip")
    (davis / "result/other").mkdir()
    gone = evaluate_davis(davis / "result", davis, "unsupervised")
    assert gone.systems["matched"]["J&F"] == 0
    shown = "\n".join(gone.problems)
    assert "other: not a video" in shown
    assert "clip: missing, all 5 frames" in shown


def test_davis_and_refdavis_are_read_from_an_object_store(
    davis: Path, store_url: str, tmp_path: Path
) -> None:
    put_folder(davis, f"{store_url}/davis")
    root = local_place(f"{store_url}/davis")
    for task in ("semi-supervised", "unsupervised"):
        expected = evaluate_davis(davis / "result", davis, task)
        assert evaluate_davis(davis / "result", root, task) == expected
    published = trees.refdavis(tmp_path / "data", split="valid")
    put_folder(published, f"{store_url}/ref")
    for number in range(4):
        shutil.copytree(davis / "result", tmp_path / "labels" / f"anno_{number}")
    expected = evaluate_refdavis(tmp_path / "labels", published)
    assert evaluate_refdavis(tmp_path / "labels", local_place(f"{store_url}/ref")) == expected


def test_refdavis_means_over_the_annotation_sets(tmp_path: Path) -> None:
    root = trees.refdavis(tmp_path / "data", split="valid")
    frames = [f"{frame:05d}" for frame in range(3)]
    for name in range(8):
        for frame, frame_name in enumerate(frames):
            mask = trees.object_mask(1 + name // 4, frame)
            # Annotation set 3 has the two objects swapped.
            if name % 4 == 3:
                mask = trees.object_mask(2 - name // 4, frame)
            write_png(tmp_path / f"masks/clip/{name}/{frame_name}.png", 255 * mask)
    result = evaluate_refdavis(tmp_path / "masks", root)
    assert result.systems["matched, mean"]["J&F"] == 1
    # Both are empty of object 2 in the last frame, where object 1 is.
    assert result.systems["fixed ids, set 2"]["J&F"] == 1
    assert result.systems["fixed ids, set 3"]["J&F"] == 0
    assert result.systems["fixed ids, mean"]["J&F"] == pytest.approx(0.75)
    for number in range(4):
        for frame, frame_name in enumerate(frames):
            path = tmp_path / f"labels/anno_{number}/clip/{frame_name}.png"
            trees.write_mask(path, trees.index_mask(frame))
    assert evaluate_refdavis(tmp_path / "labels", root).systems["fixed ids, mean"]["J&F"] == 1


def test_refdavis_merges_scores_of_16_bits(tmp_path: Path) -> None:
    """Both objects' masks cover object 1; its own score is higher by less than 8 bits tell."""
    root = trees.refdavis(tmp_path / "data", split="valid")
    out = tmp_path / "out"
    for frame in range(3):
        for name in range(8):
            own = trees.object_mask(1 + name // 4, frame)
            shown = own | trees.object_mask(1, frame)
            write_png(out / f"Annotations/clip/{name}/{frame:05d}.png", 255 * shown)
            scores = np.where(own, 60001, 60000 * shown).astype(np.uint16)
            path = out / f"Scores/clip/{name}/{frame:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png_of_scores(scores))
    result = evaluate_refdavis(out, root)
    assert result.problems == []
    assert result.systems["fixed ids, mean"]["J&F"] == 1
    # The first object of two with equal scores takes all, so swapped objects are told by scores.
    for path in out.glob("Scores/clip/*/*.png"):
        path.write_bytes(png_of_scores((65535 * (read_scores(path) > 0)).astype(np.uint16)))
    assert evaluate_refdavis(out, root).systems["fixed ids, mean"]["J&F"] == 1
    shutil.rmtree(out / "Scores/clip/0")
    gone = evaluate_refdavis(out, root)
    assert gone.systems["fixed ids, set 0"]["J&F"] < 1
    assert any("clip/0: missing, all 3 frames" in problem for problem in gone.problems)


def test_an_annotation_set_without_an_expression_keeps_the_other_objects_id(tmp_path: Path) -> None:
    root = trees.refdavis(tmp_path / "data", split="valid")
    texts = root / "davis_text_annotations/Davis17_annot1.txt"
    texts.write_text('clip 2 "a blue box"\n')
    for name in range(1, 8):
        for frame in range(3):
            mask = trees.object_mask(1 + name // 4, frame)
            write_png(tmp_path / f"out/clip/{name}/{frame:05d}.png", 255 * mask)
    rows = evaluate_refdavis(tmp_path / "out", root).expressions
    found = {
        row["object"]: row["J"]
        for row in rows
        if row["annotation_set"] == 0 and row["ids"] == "fixed"
    }
    # Without a mask, object 1 is missed in all frames; object 2 keeps its id.
    assert found == {1: 0, 2: 1}


def test_scores_beside_masks_give_the_mean_average_precision(tmp_path: Path) -> None:
    root = trees.refytvos(tmp_path / "data", "valid")
    out = submission(tmp_path / "out", {"0": 1, "1": 1})
    bare = evaluate_expressions(out, "refytvos", root, "valid").systems["predictions"]
    assert "mAP 0.5:0.95" not in bare
    for name, score in (("0", 60000), ("1", 40000)):
        for frame, frame_name in enumerate(trees.FRAMES):
            path = out / f"Scores/clip/{name}/{frame_name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            mask = trees.object_mask(1, frame)
            path.write_bytes(png_of_scores((score * mask).astype(np.uint16)))
    result = evaluate_expressions(out, "refytvos", root, "valid")
    assert result.problems == []
    # Five targets, of which the three with the best scores are found.
    assert result.systems["predictions"]["mAP 0.5:0.95"] == pytest.approx(61 / 101)


@pytest.mark.parametrize("form", sorted(set(BUILDERS) - {"videos, a file", "videos, a folder"}))
def test_every_data_set_with_ground_truth_is_measured(tmp_path: Path, form: str) -> None:
    name, split, build = BUILDERS[form]
    reader = open_dataset(name, build(tmp_path / "data"), split)
    video = reader.video("clip")
    for item in reader.expressions("clip"):
        for index, frame in enumerate(video.frames):
            truth = reader.truth(video, item, FrameIndex(index))
            assert truth is not None
            place = f"clip/{item.key.expression}/{frame}.png"
            write_png(tmp_path / "out/Annotations" / place, 255 * truth)
            write_png(tmp_path / "out/Scores" / place, 255 * truth)
    result = evaluate_expressions(tmp_path / "out", name, tmp_path / "data", split)
    assert result.problems == []
    figures = result.systems["predictions"]
    names = ("J&F", "J", "F", "mAP 0.5:0.95", "P@0.5", "P@0.9", "overall IoU", "mean IoU")
    assert {key: figures[key] for key in names} == dict.fromkeys(names, pytest.approx(1))


def test_kinds_of_expressions_are_shown_apart(tmp_path: Path) -> None:
    root = trees.revos(tmp_path / "data", "valid")
    out = submission(tmp_path / "out", {"0": 1, "1": 1})
    for name in trees.FRAMES:
        write_png(out / f"Annotations/clip/2/{name}.png", np.zeros((trees.HEIGHT, trees.WIDTH)))
    systems = evaluate_expressions(out, "revos", root, "valid").systems
    assert list(systems) == ["predictions", "referring", "reasoning", "no target"]
    assert systems["referring"]["J&F"] == 1
    assert systems["reasoning"]["J&F"] < 0.5
    # Nothing is there, and nothing was predicted.
    assert systems["no target"]["J&F"] == 1


def test_long_rvos_is_measured_in_time_too(tmp_path: Path) -> None:
    root = trees.long_rvos(tmp_path / "data", "valid")
    out = submission(tmp_path / "out", {"0": 1, "1": 2})
    empty = np.zeros((trees.HEIGHT, trees.WIDTH))
    write_png(out / f"Annotations/clip/0/{trees.FRAMES[0]}.png", empty)
    half = trees.object_mask(2, 1)
    half[:, 24:] = False
    write_png(out / f"Annotations/clip/1/{trees.FRAMES[1]}.png", 255 * half)
    # Object 2 is not in the last frame.
    write_png(out / f"Annotations/clip/1/{trees.FRAMES[2]}.png", 255 * half)
    systems = evaluate_expressions(out, "long_rvos", root, "valid").systems
    found = {kind: (row["tIoU"], row["vIoU"]) for kind, row in systems.items()}
    assert found["static"] == pytest.approx((2 / 3, 2 / 3))
    assert found["dynamic"] == pytest.approx((2 / 3, 1.5 / 3))
    assert found["predictions"] == pytest.approx((2 / 3, 3.5 / 6))
    assert temporal_overlap([1, 1], [False, False], [False, False]) == (1, 1)


def test_a_submission_scores_over_frames_then_expressions(tmp_path: Path) -> None:
    root = trees.refytvos(tmp_path / "data", "valid")
    out = submission(tmp_path / "out", {"0": 1, "1": 1})
    result = evaluate_expressions(out, "refytvos", root, "valid")
    pairs = [(trees.object_mask(1, t), trees.object_mask(2, t)) for t in range(3)]
    j = np.mean([1, np.mean([region_similarity(*pair) for pair in pairs])])
    f = np.mean([1, np.mean([contour_accuracy(*pair) for pair in pairs])])
    figures = result.systems["predictions"]
    assert (figures["J"], figures["F"]) == (pytest.approx(j), pytest.approx(f))
    assert figures["J&F"] == pytest.approx((j + f) / 2)
    assert result.problems == []
    same = [(trees.object_mask(1, t), trees.object_mask(1, t)) for t in range(3)]
    expected = overlap_figures([*same, *pairs])
    assert figures["mean IoU"] == pytest.approx(expected.mean_iou)
    assert figures["overall IoU"] == pytest.approx(expected.overall_iou)
    assert figures["P@0.5"] == expected.precision[0.5]


def test_what_a_submission_lacks_counts_zero_and_is_named(tmp_path: Path) -> None:
    root = trees.refytvos(tmp_path / "data", "valid")
    out = submission(tmp_path / "out", {"0": 1, "7": 1})
    (out / "Annotations/clip/0/00005.png").unlink()
    result = evaluate_expressions(out, "refytvos", root, "valid")
    rows = {row["expression"]: row["J"] for row in result.expressions}
    # Object 2 is gone in the last frame: an empty mask would have scored there, a missing one not.
    assert rows == {"0": pytest.approx(2 / 3), "1": 0}
    assert result.problems == [
        "clip/7: not an expression of the video; left out",
        "clip/0/00005: missing",
        "clip/1: missing, all 3 frames",
    ]


def test_mevis_is_read_without_a_top_folder(tmp_path: Path) -> None:
    root = trees.mevis(tmp_path / "data", "valid_u")
    out = submission(tmp_path / "out", {"0": 1, "1": 2}, top="")
    for frame, name in enumerate(trees.FRAMES):
        both = trees.object_mask(1, frame) | trees.object_mask(2, frame)
        write_png(out / "clip" / "2" / f"{name}.png", 255 * both)
    result = evaluate_expressions(out, "mevis", root, "valid_u")
    assert result.systems["predictions"]["J&F"] == 1


def test_a_split_without_truth_says_so(tmp_path: Path) -> None:
    root = trees.refytvos(tmp_path / "data", "valid", masks=False)
    out = submission(tmp_path / "out", {"0": 1})
    result = evaluate_expressions(out, "refytvos", root, "valid")
    assert "2 expressions have no ground truth" in result.problems[-1]


def a2d_with_tests(folder: Path) -> Path:
    """A2D-Sentences whose one clip is of the test split."""
    root = trees.a2d(folder)
    sets = root / "Release/videoset.csv"
    sets.write_text(sets.read_text().replace("3,3,0", "3,3,9").replace("3,3,1", "3,3,0"))
    sets.write_text(sets.read_text().replace("3,3,9", "3,3,1"))
    return root


def test_queries_of_a2d_and_jhmdb_are_built_from_the_data_set(tmp_path: Path) -> None:
    a2d = a2d_with_tests(tmp_path / "a2d")
    truth = truth_of_queries("a2d", a2d, [])
    assert [row["id"] for row in truth["images"]] == [
        f"v_clip_f_{frame}_i_{instance}"
        for instance, frames in ((0, (1, 2, 3)), (1, (1, 2)))
        for frame in frames
    ]
    rows = [
        {"image_id": row["image_id"], "segmentation": row["segmentation"], "score": 1}
        for row in truth["annotations"][1:]
    ]
    rows.append({"image_id": "v_none_f_1_i_0", "segmentation": rows[0]["segmentation"], "score": 1})
    rows.append({"image_id": rows[0]["image_id"], "segmentation": {}, "score": 1})
    small = encode_rle(np.ones((2, 2), bool))
    rows.append({"image_id": rows[0]["image_id"], "segmentation": small, "score": 1})
    (tmp_path / "pred.json").write_text(json.dumps([*rows, 3]))
    result = evaluate_queries(tmp_path / "pred.json", "a2d", None, a2d)
    assert result.systems["predictions"]["P@0.9"] == pytest.approx(4 / 5)
    assert len(result.problems) == 5
    jhmdb = trees.jhmdb(tmp_path / "jhmdb")
    sample = ["clip", "Rename_Images/jump/clip/00002.png", "m.mat", 3, "a red man jumping"]
    (jhmdb / "jhmdb_sentences_samples_metadata.json").write_text(json.dumps([sample]))
    assert [row["id"] for row in truth_of_queries("jhmdb", jhmdb, [])["images"]] == ["v_clip_f_2"]
    assert [row["area"] for row in truth_of_queries("jhmdb", jhmdb, [])["annotations"]] == [48]


def test_a_truth_of_the_least_that_coco_asks_for_gives_the_same_figures(tmp_path: Path) -> None:
    truth = truth_of_queries("a2d", a2d_with_tests(tmp_path / "a2d"), [])
    rows = [
        {"image_id": row["image_id"], "segmentation": row["segmentation"], "score": 0.5}
        for row in truth["annotations"][1:]
    ]
    (tmp_path / "pred.json").write_text(json.dumps(rows))

    def figures(annotations: list[dict[str, object]], categories: list[object]) -> object:
        path = tmp_path / "truth.json"
        given = {"images": truth["images"], "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(given))
        return evaluate_queries(tmp_path / "pred.json", "a2d", path, None).systems

    least = [
        {name: row[name] for name in ("id", "image_id", "segmentation")}
        for row in truth["annotations"]
    ]
    whole = figures(truth["annotations"], truth["categories"])
    assert figures(least, []) == whole
    assert figures([row | {"category_id": 5} for row in least], [{"id": 5}]) == whole
    least[0]["segmentation"] = {"size": [4, 4]}
    with pytest.raises(InputError, match=r"truth\.json: annotation 1: not a COCO RLE"):
        figures(least, [])


@pytest.mark.parametrize("content", ["", "{}", "[1", '{"images": [], "annotations": []}'])
def test_a_malformed_truth_is_one_message(tmp_path: Path, content: str) -> None:
    (tmp_path / "truth.json").write_text(content)
    (tmp_path / "pred.json").write_text("[]")
    with pytest.raises(InputError, match=r"truth\.json"):
        evaluate_queries(tmp_path / "pred.json", "a2d", tmp_path / "truth.json", None)


def test_a_result_is_a_table_or_json_and_csv(tmp_path: Path) -> None:
    result = Result(
        "x", {"a": {"J": 0.5, "F": float("nan")}}, [{"v": 1}], [], ["p"] * 30, {"videos": 2}
    )
    table, document = io.StringIO(), io.StringIO()
    present(result, Console(file=table, width=80), False, tmp_path)
    present(result, Console(file=document, width=80), True, None)
    assert "50.00" in table.getvalue()
    assert "10 more" in table.getvalue()
    shown = json.loads(document.getvalue())
    assert shown["figures"] == {"a": {"J": 0.5, "F": None}}
    assert len(shown["problems"]) == 30
    with (tmp_path / "sequences.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"v": "1"}]
    assert (tmp_path / "expressions.csv").read_text() == ""


MASKS = [trees.object_mask(1, frame) for frame in range(3)]
IMAGES = [f"v_clip_f_{frame + 1}_i_0" for frame in range(3)]


def runs_of(mask: np.ndarray) -> dict[str, object]:
    """Uncompressed RLE."""
    flat = mask.T.reshape(-1)
    ends = np.flatnonzero(np.diff(flat, prepend=False))
    counts = np.diff([0, *ends, len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": counts}


def truth_of(**changed: object) -> dict[str, object]:
    """A COCO truth of three queries; further keys of each annotation may be given."""
    return {
        "images": [{"id": i, "height": trees.HEIGHT, "width": trees.WIDTH} for i in IMAGES],
        "annotations": [
            {"id": number + 1, "image_id": image, "segmentation": encode_rle(mask)} | changed
            for number, (image, mask) in enumerate(zip(IMAGES, MASKS, strict=True))
        ],
    }


def results_of(**changed: object) -> list[dict[str, object]]:
    return [
        {"image_id": image, "segmentation": encode_rle(mask), "score": 0.9} | changed
        for image, mask in zip(IMAGES, MASKS, strict=True)
    ]


def scored(folder: Path, results: object, truth: object) -> Result:
    (folder / "pred.json").write_text(json.dumps(results), encoding="utf-8")
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    return evaluate_queries(folder / "pred.json", "a2d", folder / "truth.json", None)


@pytest.mark.parametrize("ids", [(0, 1, 2), (7, 7, 7), ("a", "b", None)])
def test_ids_of_annotations_decide_nothing(tmp_path: Path, ids: tuple[object, ...]) -> None:
    """pycocotools takes the id 0 for no match, and keeps the last of two that are equal."""
    truth: dict[str, list[dict[str, object]]] = truth_of()  # type: ignore[assignment]
    for row, name in zip(truth["annotations"], ids, strict=True):
        row["id"] = name
    figures = scored(tmp_path, results_of(), truth).systems["predictions"]
    assert figures["mAP 0.5:0.95"] == figures["mean IoU"] == 1


@pytest.mark.parametrize(
    "changed",
    [{"caption": "a red box"}, {"bbox": None}, {"bbox": []}, {"keypoints": [1]}, {"id": "x"}],
)
def test_further_keys_of_a_result_decide_nothing(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    result = scored(tmp_path, results_of(**changed), truth_of())
    assert result.systems["predictions"]["mAP 0.5:0.95"] == 1
    assert not result.problems


def test_further_keys_of_the_truth_decide_nothing(tmp_path: Path) -> None:
    truth = truth_of(bbox=None, caption="x", category_id=None, area=None, ignore=1)
    assert scored(tmp_path, results_of(), truth).systems["predictions"]["mAP 0.5:0.95"] == 1


def test_runs_that_are_not_compressed_count_the_same(tmp_path: Path) -> None:
    results, truth = results_of(), truth_of()
    for row, mask in zip(results, MASKS, strict=True):
        row["segmentation"] = runs_of(mask)
    result = scored(tmp_path, results, truth)
    assert result.systems["predictions"]["mAP 0.5:0.95"] == 1
    results[0]["segmentation"] = encode_rle(MASKS[0])
    assert scored(tmp_path, results, truth).systems == result.systems


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, True, "1", 10**400])
def test_a_score_that_is_no_number_does_not_count(tmp_path: Path, score: object) -> None:
    wrong = {"image_id": IMAGES[0], "segmentation": encode_rle(~MASKS[0]), "score": score}
    result = scored(tmp_path, [wrong, *results_of()], truth_of())
    assert result.systems["predictions"]["mean IoU"] == 1
    assert "is no number; left out" in result.problems[0]


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [trees.HEIGHT, trees.WIDTH], "counts": ""},
        {"size": [trees.HEIGHT, trees.WIDTH], "counts": encode_rle(MASKS[0])["counts"][:-1]},
        {"size": [trees.HEIGHT, trees.WIDTH], "counts": [10**9]},
        {"size": [10**5, 10**5], "counts": "x"},
        [[1, 1, 9, 1, 9, 9]],
        "x",
    ],
)
def test_an_rle_that_is_not_sound_never_reaches_pycocotools(
    tmp_path: Path, segmentation: object
) -> None:
    results = results_of()
    results[0]["segmentation"] = segmentation
    result = scored(tmp_path, results, truth_of())
    assert result.systems["predictions"]["mean IoU"] == pytest.approx(2 / 3)
    assert "not a COCO RLE" in result.problems[0]
    with pytest.raises(InputError, match=r"truth\.json: annotation 1: not a COCO RLE"):
        scored(tmp_path, results_of(), truth_of(segmentation=segmentation))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda truth: truth["images"].append(truth["images"][0]), "is there twice"),
        (lambda truth: truth["images"].pop(), "which is not there"),
        (lambda truth: truth["images"][0].update(height=-1), "of -1 x 32"),
        (lambda truth: truth["images"][0].update(height=25), "of an image of 25 x 32"),
        (lambda truth: truth["images"][0].update(id=None), "image None"),
    ],
)
def test_images_of_a_truth_are_checked(tmp_path: Path, change, words: str) -> None:  # type: ignore[no-untyped-def]
    truth = truth_of()
    change(truth)
    with pytest.raises(InputError, match=words):
        scored(tmp_path, results_of(), truth)


def test_a_byte_order_mark_is_no_part_of_results_or_lists(tmp_path: Path, davis: Path) -> None:
    expected = scored(tmp_path, results_of(), truth_of()).systems
    for name in ("pred.json", "truth.json"):
        path = tmp_path / name
        path.write_bytes(path.read_text().encode("utf-8-sig"))
    again = evaluate_queries(tmp_path / "pred.json", "a2d", tmp_path / "truth.json", None)
    assert again.systems == expected
    (davis / "ImageSets/2017/val.txt").write_bytes("clip\r\n".encode("utf-8-sig"))
    result = evaluate_davis(davis / "result", davis, "semi-supervised")
    assert result.counts["sequences"] == 1
    assert not result.problems


def test_what_macos_leaves_is_neither_truth_nor_prediction(davis: Path) -> None:
    for folder in ("Annotations/480p", "Annotations_unsupervised/480p", "result"):
        (davis / folder / "clip" / "._00000.png").write_bytes(b"\0\5\x16\7")
        (davis / folder / "__MACOSX").mkdir()
    for task in ("semi-supervised", "unsupervised"):
        result = evaluate_davis(davis / "result", davis, task)  # type: ignore[arg-type]
        assert next(iter(result.systems.values()))["J&F"] == 1
        assert not result.problems


def test_a_sequence_without_truth_is_named_and_the_others_count(davis: Path) -> None:
    (davis / "ImageSets/2017/val.txt").write_text("gone\nclip\nbroken\n")
    trees.write_mask(davis / "Annotations/480p/broken/00000.png", trees.index_mask(0))
    (davis / "Annotations/480p/broken/00001.png").write_bytes(b"nonsense")
    result = evaluate_davis(davis / "result", davis, "semi-supervised")
    assert result.systems["fixed ids"]["J&F"] == 1
    assert result.counts["sequences"] == 1
    assert [problem.split(" was left out")[0] for problem in result.problems[:2]] == [
        "gone",
        "broken",
    ]
    shutil.rmtree(davis / "Annotations/480p")
    with pytest.raises(InputError, match="gone: no such folder"):
        evaluate_davis(davis / "result", davis, "semi-supervised")


def test_a_sequence_of_two_frames_lacks_nothing(davis: Path) -> None:
    """Neither the first nor the last frame counts."""
    for frame in range(2, 5):
        (davis / f"Annotations/480p/clip/{frame:05d}.png").unlink()
    (davis / "ImageSets/2017/val.txt").write_text("clip\n")
    shutil.rmtree(davis / "result/clip")
    (davis / "result/clip").mkdir()
    assert not evaluate_davis(davis / "result", davis, "semi-supervised").problems


def _without_frames(root: Path, name: str) -> None:
    place = root / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()


@pytest.mark.parametrize("gone", ["JPEGImages/clip/00005.jpg", "JPEGImages/clip", "JPEGImages"])
def test_a_submission_is_measured_without_the_frames(tmp_path: Path, gone: str) -> None:
    root = trees.refytvos(tmp_path / "data", "valid")
    out = submission(tmp_path / "out", {"0": 1, "1": 2})
    whole = evaluate_expressions(out, "refytvos", root, "valid")
    _without_frames(root, f"valid/{gone}")
    result = evaluate_expressions(out, "refytvos", root, "valid")
    assert result.systems == whole.systems
    assert len(result.problems) == 1
    assert result.problems[0].startswith("clip is measured by its ground truth alone: ")


def test_so_is_one_of_mevis(tmp_path: Path) -> None:
    root = trees.mevis(tmp_path / "data", "valid_u")
    _without_frames(root, "valid_u/JPEGImages")
    out = submission(tmp_path / "out", {"0": 1, "1": 2}, top="")
    result = evaluate_expressions(out, "mevis", root, "valid_u")
    assert [row["J"] for row in result.expressions] == [1, 1, 0]


@pytest.mark.parametrize("name", ["a2d", "jhmdb"])
def test_so_are_queries(tmp_path: Path, name: str) -> None:
    if name == "a2d":
        root, clips = a2d_with_tests(tmp_path), "Release/clips320H/clip.mp4"
    else:
        root, clips = trees.jhmdb(tmp_path), "Rename_Images"
        sample = ["clip", "Rename_Images/jump/clip/00002.png", "m.mat", 3, "a red man jumping"]
        (root / "jhmdb_sentences_samples_metadata.json").write_text(json.dumps([sample]))
    whole, problems = truth_of_queries(name, root, []), list[str]()
    _without_frames(root, clips)
    assert truth_of_queries(name, root, problems) == whole
    assert len(problems) == 1
    assert "measured by its ground truth alone" in problems[0]


def test_so_is_ref_davis(tmp_path: Path) -> None:
    root = trees.refdavis(tmp_path / "data", split="valid")
    _without_frames(root, "DAVIS/JPEGImages")
    for number in range(4):
        for frame in range(3):
            path = tmp_path / f"labels/anno_{number}/clip/{frame:05d}.png"
            trees.write_mask(path, trees.index_mask(frame))
    assert evaluate_refdavis(tmp_path / "labels", root).systems["fixed ids, mean"]["J&F"] == 1


def test_truth_that_cannot_be_read_leaves_its_expressions_out(tmp_path: Path) -> None:
    root = trees.refytvos(tmp_path / "data", "valid")
    index = root / "meta_expressions/valid/meta_expressions.json"
    entry = json.loads(index.read_text())["videos"]["clip"]
    trees.write_index(root, "valid", {"broken": entry, "clip": entry, "gone": entry})
    for folder in ("JPEGImages", "Annotations"):
        shutil.copytree(root / "valid" / folder / "clip", root / "valid" / folder / "broken")
    (root / "valid/Annotations/broken/00005.png").write_bytes(b"nonsense")
    out = submission(tmp_path / "out", {"0": 1, "1": 2})
    result = evaluate_expressions(out, "shapes", root, "valid")
    assert result.systems["predictions"]["J&F"] == 1
    said = "\n".join(result.problems)
    for name in ("broken/0", "broken/1", "gone"):
        assert f"{name} was left out: " in said


def test_order_of_listed_frames_is_that_of_mevis_masks(tmp_path: Path) -> None:
    """Names without leading zeros: sorted as text, frame 10 would come before frame 2."""
    root = trees.mevis(tmp_path / "data", "valid_u")
    index = root / "valid_u/meta_expressions.json"
    content = json.loads(index.read_text())
    names = ["frame_2", "frame_10", "frame_1"]
    for old, new in zip(trees.FRAMES, names, strict=True):
        place = root / "valid_u/JPEGImages/clip"
        (place / f"{old}.jpg").rename(place / f"{new}.jpg")
    content["videos"]["clip"]["frames"] = names
    index.write_text(json.dumps(content))
    for frame, name in enumerate(names):
        write_png(tmp_path / f"out/clip/0/{name}.png", 255 * trees.object_mask(1, frame))
    result = evaluate_expressions(tmp_path / "out", "mevis", root, "valid_u")
    assert result.expressions[0]["J&F"] == 1
