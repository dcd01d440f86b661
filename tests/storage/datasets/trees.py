"""Small data sets in their real layouts, rendered for tests.

Every tree holds the same scene: video ``clip`` with three frames of 24 x 32 pixels, in which object
1 moves to the right and object 2 stands still and is gone in the last frame.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from pipeline.coco import encode_rle
from pipeline.geometry import masks_to_boxes

HEIGHT, WIDTH = 24, 32
FRAMES = ("00000", "00005", "00010")


def object_mask(number: int, frame: int) -> np.ndarray:
    """The mask of object 1 or 2 in a frame, [HEIGHT, WIDTH]."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    if number == 1:
        mask[2:8, 1 + 3 * frame : 9 + 3 * frame] = True
    elif frame < 2:
        mask[12:20, 18:30] = True
    return mask


def index_mask(frame: int) -> np.ndarray:
    """Both objects' ids, uint8 [HEIGHT, WIDTH]."""
    return (object_mask(1, frame) + 2 * object_mask(2, frame)).astype(np.uint8)


def picture(frame: int) -> np.ndarray:
    """A frame, uint8 [HEIGHT, WIDTH, 3]."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[object_mask(1, frame)] = (230, 20, 20)
    image[object_mask(2, frame)] = (20, 20, 230)
    return image


def write_frame(path: Path, frame: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(frame)).save(path)


def write_mask(path: Path, ids: np.ndarray) -> None:
    """A palette PNG whose pixel values are the ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", (ids.shape[1], ids.shape[0]), ids.tobytes())
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    image.save(path)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def refuse(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
    """Makes a folder fail where it is listed, and what is in it where it is looked at.

    The tests may run as root, who may read all.
    """
    scandir, stat = os.scandir, Path.stat

    def scanned(path: str | Path) -> object:
        if Path(path) == folder:
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    def looked_at(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if folder in path.parents:
            raise OSError(number, os.strerror(number), str(path))
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "scandir", scanned)
    monkeypatch.setattr(Path, "stat", looked_at)


def a_file_instead(folder: Path) -> None:
    """Puts a file where a folder was."""
    shutil.rmtree(folder)
    folder.write_text("a file")


def refytvos(root: Path, split: str = "train", video: str = "clip", masks: bool = True) -> Path:
    """Ref-YouTube-VOS: one video with an expression of each object."""
    for frame, name in enumerate(FRAMES):
        write_frame(root / split / "JPEGImages" / video / f"{name}.jpg", frame)
        if masks:
            write_mask(root / split / "Annotations" / video / f"{name}.png", index_mask(frame))
    expressions: dict[str, Any] = {"0": {"exp": "a red box"}, "1": {"exp": "a blue box "}}
    if masks:
        expressions["0"]["obj_id"], expressions["1"]["obj_id"] = "1", "2"
        objects = {number: {"category": "box", "frames": list(FRAMES)} for number in "12"}
        write_json(root / split / "meta.json", {"videos": {video: {"objects": objects}}})
    write_index(root, split, {video: {"expressions": expressions, "frames": list(FRAMES)}})
    return root


def masks_by_expression(root: Path, split: str = "train", video: str = "clip") -> Path:
    """Turns the ground truth of Ref-YouTube-VOS into masks of one expression each."""
    folder = root / split / "Annotations" / video
    shutil.rmtree(folder)
    for frame, name in enumerate(FRAMES):
        for number in (1, 2):
            path = folder / str(number - 1) / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(object_mask(number, frame).astype(np.uint8) * np.uint8(255)).save(path)
    index = root / "meta_expressions" / split / "meta_expressions.json"
    document = json.loads(index.read_text())
    for entry in document["videos"][video]["expressions"].values():
        del entry["obj_id"]
    index.write_text(json.dumps(document))
    return root


def write_index(root: Path, split: str, videos: Mapping[str, object]) -> None:
    path = root / "meta_expressions" / split / "meta_expressions.json"
    write_json(path, {"videos": videos})


def refdavis(root: Path, video: str = "clip", split: str = "train") -> Path:
    """Ref-DAVIS17 as published: four annotation sets, the second annotator's in Latin-1."""
    for frame in range(len(FRAMES)):
        write_frame(root / f"DAVIS/JPEGImages/480p/{video}/{frame:05d}.jpg", frame)
        mask = root / f"DAVIS/Annotations_unsupervised/480p/{video}/{frame:05d}.png"
        write_mask(mask, index_mask(frame))
    texts = root / "davis_text_annotations"
    texts.mkdir(parents=True)
    for name, encoding, word in (
        ("Davis17_annot1.txt", "utf-8", "caf\u00e9"),
        ("Davis17_annot1_full_video.txt", "utf-8", "moving"),
        ("Davis17_annot2.txt", "latin-1", "caf\u00e9"),
        ("Davis17_annot2_full_video.txt", "latin-1", "still"),
    ):
        lines = [f'{video} 1 "a red {word} box"', f'{video} 2 "a blue {word} box"', ""]
        (texts / name).write_bytes("\n".join(lines).encode(encoding))
    name = "val" if split == "valid" else "train"
    sets = root / "DAVIS" / "ImageSets" / "2017" / f"{name}.txt"
    sets.parent.mkdir(parents=True)
    sets.write_text(f"{video}\n")
    return root


def mevis(root: Path, split: str = "train", video: str = "clip") -> Path:
    """MeViS: an expression of each object, and one of both."""
    for frame, name in enumerate(FRAMES):
        write_frame(root / split / "JPEGImages" / video / f"{name}.jpg", frame)
    expressions = {
        "0": {"exp": "the red box moving right", "obj_id": [1], "anno_id": [11]},
        "1": {"exp": "the blue box standing", "obj_id": [2], "anno_id": [12]},
        "2": {"exp": "both", "obj_id": [1, 2], "anno_id": [11, 12]},
    }
    entry = {"expressions": expressions, "frames": list(FRAMES)}
    write_json(root / split / "meta_expressions.json", {"videos": {video: entry}})
    masks = {
        str(10 + number): [
            encode_rle(object_mask(number, frame)) if object_mask(number, frame).any() else None
            for frame in range(len(FRAMES))
        ]
        for number in (1, 2)
    }
    write_json(root / split / "mask_dict.json", masks)
    return root


def mevis_v2(root: Path, split: str = "train") -> Path:
    """MeViS, version 2: the same, and an expression without a target."""
    mevis(root, split)
    path = root / split / "meta_expressions.json"
    document = json.loads(path.read_text())
    nothing = {"exp": "the green box flying", "obj_id": [], "anno_id": []}
    document["videos"]["clip"]["expressions"]["3"] = nothing
    path.unlink()
    write_json(root / split / "meta_expressions_v2.json", document)
    return root


def revos(root: Path, split: str = "train", video: str = "clip") -> Path:
    """ReVOS: an expression of each kind; the video's published name may have slashes."""
    for frame, name in enumerate(FRAMES):
        write_frame(root / "JPEGImages" / video / f"{name}.jpg", frame)
    expressions = {
        "0": {"exp": "the red box", "obj_id": [1], "anno_id": [11], "type_id": 0},
        "1": {"exp": "what is blue?", "obj_id": [2], "anno_id": [12], "type_id": 1},
        "2": {"exp": "the green box", "obj_id": [], "anno_id": [], "type_id": 2},
    }
    entry = {"expressions": expressions, "frames": list(FRAMES), "height": HEIGHT, "width": WIDTH}
    write_json(root / f"meta_expressions_{split}_.json", {"videos": {video: entry}})
    mevis(root / "other", split)
    (root / "other" / split / "mask_dict.json").rename(root / "mask_dict.json")
    shutil.rmtree(root / "other")
    return root


def long_rvos(root: Path, split: str = "train", video: str = "clip") -> Path:
    """Long-RVOS: an expression of each object; a frame that does not show it has no mask."""
    folder = root / split
    for frame, name in enumerate(FRAMES):
        write_frame(folder / "JPEGImages" / video / f"{name}.jpg", frame)
        for number in (1, 2):
            if (mask := object_mask(number, frame)).any():
                path = folder / "Annotations" / video / str(number) / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(path)
    expressions = {
        "0": {"exp": "the red box", "obj_id": 1, "type": "static"},
        "1": {"exp": "the blue box that goes away", "obj_id": 2, "type": "dynamic"},
    }
    entry = {"expressions": expressions, "frames": list(FRAMES)}
    write_json(folder / "meta_expressions.json", {"videos": {video: entry}})
    return root


def corners(mask: np.ndarray) -> list[float]:
    """The polygon of a mask that is a rectangle, as COCO writes it."""
    x0, y0, x1, y1 = masks_to_boxes(mask).tolist()
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def refcoco(root: Path, name: str = "refcoco", by: str = "unc", split: str = "train") -> Path:
    """RefCOCO: one image, the scene's first frame; its first object is a polygon, its second an
    RLE."""
    images = root / "images/mscoco/images/train2014"
    images.mkdir(parents=True)
    Image.fromarray(picture(0)).save(images / "clip.jpg", quality=95)
    size = {"height": HEIGHT, "width": WIDTH}
    annotations = [
        {"id": 11, "image_id": 7, "segmentation": [corners(object_mask(1, 0))]},
        {"id": 12, "image_id": 7, "segmentation": encode_rle(object_mask(2, 0))},
    ]
    image = {"id": 7, "file_name": "clip.jpg", **size}
    write_json(
        root / name / "instances.json",
        {"images": [image], "annotations": annotations, "categories": []},
    )
    refs = [
        {
            "ref_id": number,
            "ann_id": 10 + number,
            "image_id": 7,
            "split": split,
            "file_name": f"clip_{number}.jpg",
            "category_id": 1,
            "sent_ids": [10 * number, 10 * number + 1],
            "sentences": [
                {"sent_id": 10 * number + place, "sent": text, "raw": text, "tokens": text.split()}
                for place, text in enumerate(texts)
            ],
        }
        for number, texts in ((1, ["red box", "box on top"]), (2, ["blue box", "lower box"]))
    ]
    # As the published file: protocol 0, which Python 2 wrote.
    (root / name / f"refs({by}).p").write_bytes(pickle.dumps(refs, protocol=0))
    return root


def write_clip(path: Path, frames: int = len(FRAMES)) -> None:
    """An H.264 clip of the scene, with frames that depend on later ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        stream.options = {"crf": "5", "bf": "2", "g": "6"}
        for frame in range(frames):
            image = av.VideoFrame.from_ndarray(picture(frame), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def write_instances(path: Path, instances: list[int], masks: np.ndarray) -> None:
    """An A2D annotation file; masks [N, H, W] are kept as the data set keeps them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = masks.astype(np.uint8).transpose(0, 2, 1)
    with h5py.File(path, "w") as file:
        file["instance"] = np.array(instances, float)
        file["reMask"] = stored[0] if len(stored) == 1 else stored
        file["reBBox"] = np.zeros((4, len(stored)))
        file["id"] = np.zeros(len(stored))


def a2d(root: Path, video: str = "clip") -> Path:
    """A2D-Sentences, every frame annotated; instance 0 is object 1, instance 1 is object 2."""
    write_clip(root / f"Release/clips320H/{video}.mp4")
    (root / "Release/videoset.csv").write_text(
        f"{video},11,0:00,0:01,{HEIGHT},{WIDTH},3,3,0\nother,11,0:00,0:01,24,32,3,3,1\n"
    )
    texts = root / "text_annotations"
    for frame in range(len(FRAMES)):
        masks = np.stack([object_mask(1, frame), object_mask(2, frame)])
        visible = [number for number in (0, 1) if masks[number].any()]
        path = texts / f"a2d_annotation_with_instances/{video}/{frame + 1:05d}.h5"
        write_instances(path, visible, masks[visible])
    rows = ["video_id,instance_id,query", f'{video},0,"a red box, moving"', f"{video},1,blue box"]
    rows += [f"{video},1 (copy),blue box", "other,0,a dog"]
    (texts / "a2d_annotation.txt").write_text("\n".join(rows) + "\n")
    return root


def jhmdb(root: Path, video: str = "clip", masks: int = len(FRAMES)) -> Path:
    """JHMDB-Sentences: the actor is object 1; masks may end before the frames do."""
    for frame in range(len(FRAMES)):
        write_frame(root / f"Rename_Images/jump/{video}/{frame + 1:05d}.png", frame)
    path = root / f"puppet_mask/jump/{video}/puppet_mask.mat"
    path.parent.mkdir(parents=True)
    stack = np.stack([object_mask(1, frame) for frame in range(masks)], axis=-1)
    scipy.io.savemat(path, {"part_mask": stack.astype(np.uint8)})
    (root / "jhmdb_annotation.txt").write_text(f"video_id,query\n{video},a red man jumping\n")
    return root


def visor(root: Path, video: str = "P01_01") -> Path:
    """VISOR: one narration over three sparse frames; its boxes are polygons. EPIC-KITCHENS numbers
    each frame 7 lower."""
    sparse = root / "GroundTruth-SparseAnnotations"
    rows = []
    mapping = {}
    for frame in range(len(FRAMES)):
        name = f"{video}_frame_{107 + 40 * frame:010d}.jpg"
        mapping[name] = f"frame_{100 + 40 * frame:010d}.jpg"
        write_frame(sparse / f"rgb_frames/train/P01/{video}/{name}", frame)
        annotations = []
        for number, label in ((1, "red box"), (2, "blue box")):
            x0, y0, x1, y1 = masks_to_boxes(object_mask(number, frame)).tolist()
            if x1:
                corners = [[x0, y0], [x1 - 1, y0], [x1 - 1, y1 - 1], [x0, y1 - 1]]
                entity = {"id": "a", "name": label, "class_id": 1, "exhaustive": "y"}
                annotations.append(entity | {"segments": [corners]})
        image = {"image_path": f"{video}/{name}", "name": name, "subsequence": "s", "video": video}
        rows.append({"image": image, "annotations": annotations})
    write_json(sparse / f"annotations/train/{video}.json", {"video_annotations": rows})
    write_json(root / "frame_mapping.json", {video: mapping})
    (root / "EPIC_100_train.csv").write_text(
        "narration_id,participant_id,video_id,start_frame,stop_frame,narration\n"
        f"clip,P01,{video},90,190,open the box\n"
        f"one_frame,P01,{video},130,150,close the box\n"
        "elsewhere,P02,P02_01,0,999,wash\n"
    )
    return root


def videos(root: Path, folder: bool = False) -> Path:
    """A data set of one video file, or of one folder of frames, with a box of the red object."""
    if folder:
        for frame, name in enumerate(FRAMES):
            write_frame(root / "clip" / f"{name}.jpg", frame)
    else:
        write_clip(root / "clip.mp4")
    x0, y0, x1, y1 = masks_to_boxes(object_mask(1, 1)).tolist()
    frame = FRAMES[1] if folder else "1"
    rows = f"clip,red,a red box,{frame},{x0:g} {y0:g} {x1:g} {y1:g}\nclip,blue,a blue box,,\n"
    (root / "expressions.csv").write_text(f"video,expression_id,text,frame,box\n{rows}")
    return root
