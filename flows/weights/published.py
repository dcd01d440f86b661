"""The published weights that configurations can name: address, digest, size and licence."""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Published weights.

    Attributes:
        file: name of the file or folder.
        source: address of the file, or of the repository on Hugging Face.
        setting: settings that use it.
        licence: of the weights, as their publisher states it.
        sha256: of the file; None where the publisher gives none.
        digest_start: first digits of the SHA-256, where the publisher gives only these.
        size: bytes of the file; None where it is not known before the server is asked.
    """

    file: str
    source: str
    setting: str
    licence: str
    sha256: str | None = None
    digest_start: str = ""
    size: int | None = None

    @property
    def repository(self) -> str | None:
        """The repository on Hugging Face whose folder this is; None for a plain file."""
        found = self.source.partition(_HUB)[2]
        return found or None


_HUB = "https://huggingface.co/"
_DINO = "https://github.com/IDEA-Research/GroundingDINO/releases/download"
_SAM = "https://dl.fbaipublicfiles.com/segment_anything"
_TORCHVISION = "https://download.pytorch.org/models"
_IMAGENET = "BSD-3-Clause (torchvision); trained on ImageNet-1K, which has terms of its own"

PUBLISHED = (
    Published(
        "groundingdino_swint_ogc.pth",
        f"{_DINO}/v0.1.0-alpha/groundingdino_swint_ogc.pth",
        "ground.checkpoint, ground.backbone=swin_T_224_1k, ground.text_encoder",
        "Apache-2.0",
        sha256="3b3ca2563c77c69f651d7bd133e97139c186df06231157a64c507099c52bc799",
        size=693_997_677,
    ),
    Published(
        "groundingdino_swinb_cogcoor.pth",
        f"{_DINO}/v0.1.0-alpha2/groundingdino_swinb_cogcoor.pth",
        "ground.checkpoint, ground.backbone=swin_B_384_22k, ground.text_encoder",
        "Apache-2.0",
        sha256="46270f7a822e6906b655b729c90613e48929d0f2bb8b9b76fd10a856f3ac6ab7",
        size=938_057_991,
    ),
    Published(
        "bert-base-uncased",
        f"{_HUB}google-bert/bert-base-uncased",
        "ground.text_encoder, the folder",
        "Apache-2.0",
    ),
    Published(
        "sam_vit_h_4b8939.pth",
        f"{_SAM}/sam_vit_h_4b8939.pth",
        "segment.checkpoint, segment.model=vit_h",
        "Apache-2.0",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        size=2_564_550_879,
    ),
    Published(
        "sam_vit_l_0b3195.pth",
        f"{_SAM}/sam_vit_l_0b3195.pth",
        "segment.checkpoint, segment.model=vit_l",
        "Apache-2.0",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        size=1_249_524_607,
    ),
    Published(
        "sam_vit_b_01ec64.pth",
        f"{_SAM}/sam_vit_b_01ec64.pth",
        "segment.checkpoint, segment.model=vit_b",
        "Apache-2.0",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        size=375_042_383,
    ),
    Published(
        "sam2.1-hiera-small",
        f"{_HUB}facebook/sam2.1-hiera-small",
        "track.checkpoint, the folder; track.source=model",
        "Apache-2.0",
    ),
    Published(
        "sam2.1-hiera-large",
        f"{_HUB}facebook/sam2.1-hiera-large",
        "track.checkpoint, the folder; track.source=model",
        "Apache-2.0",
    ),
    Published(
        "EdgeTAM-hf",
        f"{_HUB}yonigozlan/EdgeTAM-hf",
        "track.checkpoint, the folder; track.source=model",
        "Apache-2.0",
    ),
    Published(
        "Qwen3-VL-2B-Instruct",
        f"{_HUB}Qwen/Qwen3-VL-2B-Instruct",
        "augment.checkpoint, the folder; for a GPU of 8 GB",
        "Apache-2.0",
    ),
    Published(
        "Qwen3-VL-8B-Instruct",
        f"{_HUB}Qwen/Qwen3-VL-8B-Instruct",
        "augment.checkpoint, the folder; any image-text-to-text model of transformers works",
        "Apache-2.0",
    ),
    Published(
        "Qwen3-VL-32B-Instruct",
        f"{_HUB}Qwen/Qwen3-VL-32B-Instruct",
        "augment.checkpoint, the folder",
        "Apache-2.0",
    ),
    Published(
        "Qwen2.5-VL-7B-Instruct",
        f"{_HUB}Qwen/Qwen2.5-VL-7B-Instruct",
        "augment.checkpoint, the folder",
        "Apache-2.0",
    ),
    Published(
        "Qwen2.5-VL-32B-Instruct",
        f"{_HUB}Qwen/Qwen2.5-VL-32B-Instruct",
        "augment.checkpoint, the folder",
        "Apache-2.0",
    ),
    Published(
        "siglip2-base-patch16-224",
        f"{_HUB}google/siglip2-base-patch16-224",
        "augment.similarity_checkpoint, the folder; augment.similarity=encoder",
        "Apache-2.0",
    ),
    Published(
        "resnet50-0676ba61.pth",
        f"{_TORCHVISION}/resnet50-0676ba61.pth",
        "student.encoders.backbone_checkpoint, student.encoders.backbone=resnet50",
        _IMAGENET,
        digest_start="0676ba61",
    ),
    Published(
        "resnet101-63fe2227.pth",
        f"{_TORCHVISION}/resnet101-63fe2227.pth",
        "student.encoders.backbone_checkpoint, student.encoders.backbone=resnet101",
        _IMAGENET,
        digest_start="63fe2227",
    ),
    Published(
        "swin3d_t-7615ae03.pth",
        f"{_TORCHVISION}/swin3d_t-7615ae03.pth",
        "student.encoders.backbone_checkpoint, student.encoders.backbone=video-swin-t",
        "BSD-3-Clause (torchvision); trained on Kinetics-400, which has terms of its own",
        digest_start="7615ae03",
    ),
    Published(
        "roberta-base",
        f"{_HUB}FacebookAI/roberta-base",
        "student.encoders.text_encoder, the folder; any text encoder of transformers works",
        "MIT",
    ),
)


def published(name: str) -> Published | None:
    """Returns the published weights of a name; None if there are none."""
    return next((item for item in PUBLISHED if item.file == name), None)


def did_you_mean(name: str) -> str:
    """Returns the published name that is most similar to a wrong one, in words; empty for none."""
    names = [item.file for item in PUBLISHED]
    near = [known for known in names if known.startswith(name.removesuffix(".pth"))]
    near = near or difflib.get_close_matches(name, names, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""
