import numpy as np

from pipeline.marks import COLOURS, colour_of, marked


def _scene() -> tuple[np.ndarray, np.ndarray]:
    image = np.full((120, 160, 3), 90, np.uint8)
    masks = np.zeros((3, 120, 160), np.bool_)
    masks[0, 40:70, 20:50] = True
    masks[1, 40:70, 90:120] = True
    return image, masks


def test_an_object_has_an_outline_in_the_colour_of_its_number_and_keeps_its_own() -> None:
    image, masks = _scene()
    found = marked(image, masks, [2, 7, 3])
    assert (found[masks[:2].any(0)] == 90).all()
    assert (found[39, 30] == colour_of(2)).all()
    assert (found[55, 120] == colour_of(7)).all()
    assert not (found == np.array(colour_of(3))).all(-1).any()  # it has no mask here
    assert (image == 90).all()


def test_a_number_is_written_beside_its_object_and_never_over_another_number() -> None:
    image, masks = _scene()
    masks[2, 40:70, 21:51] = True
    found = marked(image, masks, [1, 2, 3])
    fields = [(found == np.array(colour_of(number))).all(-1) for number in (1, 2, 3)]
    for field in fields:
        assert field.sum() > 60  # more than an outline: the field of the number
    ones, twos = marked(image, masks[:1], [1]), marked(image, masks[:1], [2])
    assert (ones != twos).any(-1).sum() > 40


def test_a_number_at_the_edge_stays_within_the_frame() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    masks = np.ones((1, 40, 60), np.bool_)
    found = marked(image, masks, [12])
    assert (found == np.array(colour_of(12))).all(-1).any()
    assert colour_of(1 + len(COLOURS)) == colour_of(1)
    tiny = marked(np.zeros((4, 5, 3), np.uint8), np.ones((1, 4, 5), np.bool_), [1])
    assert tiny.shape == (4, 5, 3)
