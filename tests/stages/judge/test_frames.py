import numpy as np

from stages.judge.frames import frames_to_show


def test_frames_are_spread_and_show_as_many_tracks_as_they_can() -> None:
    visible = np.ones((40, 2), np.bool_)
    visible[5, 1] = visible[14, 0] = False
    found = frames_to_show(visible, 4)
    assert found == sorted(set(found)) and len(found) == 4
    assert [frame // 10 for frame in found] == [0, 1, 2, 3]
    assert not {5, 14} & set(found)


def test_a_track_of_few_frames_is_shown() -> None:
    visible = np.zeros((60, 3), np.bool_)
    visible[:, 0] = visible[30:, 1] = True
    visible[31, 2] = True
    visible[31, :2] = False
    found = frames_to_show(visible, 3)
    assert len(found) == 3 and 31 in found
    assert visible[found].any(axis=0).all()


def test_short_videos_and_single_frames() -> None:
    assert frames_to_show(np.ones((2, 1), np.bool_), 6) == [0, 1]
    assert frames_to_show(np.ones((9, 1), np.bool_), 1) == [4]
    # More tracks that are never together than there are frames to show: some are left out.
    apart = np.eye(5, dtype=np.bool_)
    assert len(frames_to_show(apart, 2)) == 2
