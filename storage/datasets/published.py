"""What the data sets' papers and the field's loaders count, to hold a copy on disk against."""

from __future__ import annotations

PUBLISHED: dict[tuple[str, str], dict[str, int]] = {
    ("refytvos", "train"): {"videos": 3471, "objects": 6388, "expressions": 12913},
    ("refytvos", "valid"): {"videos": 202},
    ("refdavis", "train"): {"videos": 60},
    ("refdavis", "valid"): {"videos": 30, "objects": 61, "expressions": 244},
    ("a2d", "train"): {"rows of a2d_annotation.txt": 6655, "rows dropped": 1},
    ("a2d", "test"): {"rows of a2d_annotation.txt": 6655, "rows dropped": 1},
    ("jhmdb", "test"): {"videos": 928, "expressions": 928},
    ("mevis_v2", "train"): {"videos": 1662, "expressions": 27502},
    ("mevis_v2", "valid_u"): {"videos": 50, "expressions": 907},
    ("mevis_v2", "valid"): {"videos": 140, "expressions": 2523},
    ("long_rvos", "train"): {"videos": 1855},
    ("long_rvos", "valid"): {"videos": 112},
    ("long_rvos", "test"): {"videos": 226},
    ("refcoco", "train"): {"objects": 42404},
    ("refcoco+", "train"): {"objects": 42278},
    ("refcocog", "train"): {"objects": 42226},
}
"""(data set, split) -> what is counted -> the published number."""

VALID_WITH_TEST = {"videos": 507, "expressions": 2096}
"""Ref-YouTube-VOS valid where nothing on disk says which of its index are of the test split."""


def published_counts(dataset: str, split: str, videos: int) -> dict[str, int]:
    """The published counts of a split; empty where there are none.

    Args:
        videos: how many the reader has, which tells the index of valid and test from valid.
    """
    if (dataset, split) == ("refytvos", "valid") and videos == VALID_WITH_TEST["videos"]:
        return VALID_WITH_TEST
    return PUBLISHED.get((dataset, split), {})
