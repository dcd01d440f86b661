from pipeline.types import (
    Augmentation,
    Expression,
    Negative,
    Positive,
    Provenance,
    SampleKey,
)
from stages.augment.siblings import others_of, with_siblings

ORIGIN = Provenance("", "", "", 0)


def sentence(row: int, text: str, *objects: str) -> Expression:
    return Expression(SampleKey("d", "train", "v", str(row)), text, object_ids=objects)


def augmentation(expression: Expression, *more: str) -> Augmentation:
    positives = tuple(Positive(text, 1.0) for text in (expression.text, *more))
    return Augmentation(expression.key, positives, (Negative("a cat", "category"),), ORIGIN)


def test_others_are_known_to_be_about_other_objects() -> None:
    mine = sentence(0, "a dog", "1")
    others = [sentence(1, "the dog", "1"), sentence(2, "a cat", "2"), sentence(3, "an elk")]
    assert others_of(mine, [mine, *others]) == ["a cat"]
    assert others_of(others[2], [mine, *others]) == []


def test_siblings_come_after_the_original_and_are_no_negatives() -> None:
    mine = sentence(0, "a dog", "1")
    expressions = [mine, sentence(1, "a cat", "1"), sentence(2, "an elk", "2")]
    found = with_siblings(augmentation(mine, "one dog", "some dog"), expressions, 3)
    assert [item.text for item in found.positives] == ["a dog", "a cat", "one dog"]
    assert found.negatives == ()


def test_nothing_is_a_sibling_where_objects_are_not_known() -> None:
    mine = sentence(0, "a dog")
    before = augmentation(mine, "one dog")
    assert with_siblings(before, [mine, sentence(1, "a cat")], 6) == before
