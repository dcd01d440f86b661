"""Stage ``track``: links the candidate masks of a video's frames into tracks of one object each."""

from __future__ import annotations

from stages.track.association import associate

__all__ = ["associate"]
