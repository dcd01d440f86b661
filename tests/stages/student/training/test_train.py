"""Training: the same by seed, on from a checkpoint, in parts; what it learns."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config import BOXES, SimrvosConfig, SimrvosStudentConfig, TrainingConfig, ViewsConfig
from pipeline.errors import CheckpointError, ConfigError
from pipeline.geometry import masks_to_boxes
from pipeline.metrics import region_similarity
from pipeline.shapes.scene import Scene
from stages.student.contract import Student
from stages.student.data.annotation import Annotations
from stages.student.data.clips import Clip, Clips, Shape
from stages.student.data.loading import clips_of_steps, numbers_of_step
from stages.student.data.supervision import PseudoMasks, SupervisionSource
from stages.student.predict import predict_video, windows
from stages.student.simrvos.student import SimRVOSStudent
from stages.student.training.fit import Checkpoints, History, fit
from stages.student.training.train import Trainer, rate_of
from stages.student.training.world import World
from stages.student.weak.losses import resize_logits
from storage.files.atomic import replace_file
from tests.fakes.student import CHANNELS, Videos, tiny_model, two_scenes

CPU = torch.device("cpu")
CONFIG = SimrvosStudentConfig(
    steps=160,
    clips_per_step=3,
    frames_per_clip=2,
    expressions_per_clip=1,
    short_side=96,
    channels=CHANNELS,
    learning_rate=4e-3,
    backbone_learning_rate=4e-3,
)


@pytest.fixture(scope="module")
def videos() -> Videos:
    return Videos(two_scenes())


def configured(**changes: Any) -> SimrvosStudentConfig:
    """A short training on small frames; ``training`` holds fields of its own section."""
    how = TrainingConfig(**changes.pop("training", {}))
    short = {"steps": 6, "short_side": 32, "training": how} | changes
    return CONFIG.model_copy(update=short)


def trainer_of(
    videos: Videos,
    config: SimrvosStudentConfig,
    *,
    seed: int = 0,
    source: SupervisionSource | None = None,
    world: World | None = None,
) -> Trainer:
    student = SimRVOSStudent(tiny_model(), config)
    shape = Shape(config.frames_per_clip, config.expressions_per_clip)
    clips = Clips(videos, source or PseudoMasks(videos), shape, seed=seed)
    return Trainer(student, clips, config, device=CPU, world=world or World())


def losses_of(trainer: Trainer) -> list[float]:
    return [step.loss for step in trainer.steps()]


def weights_of(student: Student) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in student.state_dict().items()}


def assert_equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_training_is_the_same_for_the_same_seed(videos: Videos) -> None:
    runs = [losses_of(trainer_of(videos, configured(steps=3), seed=seed)) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_a_step_says_what_it_came_to(videos: Videos) -> None:
    [first, second] = trainer_of(videos, configured(steps=2, training={"warm_up": 1.0})).steps()
    assert (first.number, second.number) == (0, 1) and first.frames == 6
    assert first.loss == pytest.approx(sum(first.terms.values()))
    assert first.rate == pytest.approx(0.5 * CONFIG.learning_rate)


def test_a_learning_rate_of_zero_leaves_the_image_encoder_alone(videos: Videos) -> None:
    trainer = trainer_of(videos, configured(steps=2, backbone_learning_rate=0.0))
    before = weights_of(trainer.student)
    losses_of(trainer)
    for name, value in trainer.student.state_dict().items():
        assert torch.equal(value, before[name]) == ("image_encoder." in name), name


def test_a_step_in_parts_is_the_step(videos: Videos) -> None:
    whole, parts = (
        trainer_of(videos, configured(steps=3, training={"gradient_accumulation_steps": count}))
        for count in (1, 3)
    )
    np.testing.assert_allclose(losses_of(whole), losses_of(parts), rtol=1e-4)


@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_it_goes_on_bit_for_bit_from_where_it_was_cut_off(
    videos: Videos, tmp_path: Path, ema: float
) -> None:
    config = configured(steps=6, training={"ema_decay": ema, "checkpoint_every": 2})
    straight = trainer_of(videos, config)
    history = fit(straight, config.training)
    kept = Checkpoints(tmp_path / "checkpoint.pt", "this", replace_file)

    class CutOffError(Exception): ...

    def cut(step: Any, _: History) -> None:
        if step.number == 4:
            raise CutOffError

    with pytest.raises(CutOffError):
        fit(trainer_of(videos, config), config.training, checkpoints=kept, tell=cut)
    torch.manual_seed(99)
    resumed = trainer_of(videos, config)
    told: list[int] = []
    again = fit(
        resumed,
        config.training,
        checkpoints=kept,
        tell=lambda step, _: told.append(step.number),
    )
    assert told == [4, 5], "the checkpoint was of the fourth step"
    assert again.steps == history.steps
    assert_equal(weights_of(straight.student), weights_of(resumed.student))
    assert fit(trainer_of(videos, config), config.training, checkpoints=kept).steps == history.steps


def test_a_checkpoint_of_another_training_is_left_alone(videos: Videos, tmp_path: Path) -> None:
    config = configured(steps=2, training={"checkpoint_every": 1})
    path = tmp_path / "checkpoint.pt"
    fit(
        trainer_of(videos, config),
        config.training,
        checkpoints=Checkpoints(path, "one", replace_file),
    )
    assert Checkpoints(path, "two", replace_file).read() is None
    assert Checkpoints(tmp_path / "none.pt", "one", replace_file).read() is None
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="remove the file"):
        Checkpoints(path, "one", replace_file).read()
    path.write_bytes(pickle.dumps({"format": print}))
    with pytest.raises(CheckpointError, match="remove the file"):
        Checkpoints(path, "one", replace_file).read()


def test_the_moving_average_predicts_and_the_weights_come_back(videos: Videos) -> None:
    trainer = trainer_of(videos, configured(steps=3, training={"ema_decay": 0.5, "warm_up": 0.0}))
    before = weights_of(trainer.student)
    average = before
    for _ in trainer.steps():
        weights = weights_of(trainer.student)
        average = {name: (average[name] + value) / 2 for name, value in weights.items()}
        with trainer.averaged() as student:
            assert not student.training
            for name, value in student.state_dict().items():
                torch.testing.assert_close(value, average[name])
        assert_equal(weights_of(trainer.student), weights)


def test_the_best_that_was_measured_is_kept_and_patience_ends(videos: Videos) -> None:
    scores = iter([40.0, 60.0, 50.0, 55.0, 70.0])
    seen: list[dict[str, Tensor]] = []

    def measure(student: Student) -> float:
        assert not student.training
        seen.append(weights_of(student))
        return next(scores)

    config = configured(steps=20, training={"validate_every": 2, "patience": 2})
    trainer = trainer_of(videos, config)
    history = fit(trainer, config.training, measure=measure)
    assert history.scores == [(2, 40.0), (4, 60.0), (6, 50.0), (8, 55.0)]
    assert len(history.steps) == 8, "two measurements without a better one"
    assert_equal(weights_of(trainer.student), seen[1])


@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_half_precision_costs_about_the_same(videos: Videos, dtype: str) -> None:
    full = losses_of(trainer_of(videos, configured(steps=2)))
    half = losses_of(trainer_of(videos, configured(steps=2, training={"dtype": dtype})))
    assert half != full
    np.testing.assert_allclose(half, full, rtol=0.1)


def test_the_rate_rises_and_falls() -> None:
    steps = TrainingConfig(schedule="steps", milestones=(0.5, 0.8), warm_up=0.1)
    found = [rate_of(step, 100, steps) for step in (0, 4, 9, 49, 50, 79, 80, 99)]
    np.testing.assert_allclose(found, [0.1, 0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = [rate_of(step, 100, TrainingConfig(warm_up=0.05)) for step in range(100)]
    assert cosine[0] == pytest.approx(0.2) and max(cosine) > 0.98
    assert cosine[50] == pytest.approx(0.5) and cosine[99] < 0.001


def test_terms_are_read_once_a_step_and_after_it(
    videos: Videos, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(videos, configured(steps=1, training={"gradient_accumulation_steps": 3}))
    told: list[str] = []
    step, read, number = trainer._optimiser.step, Tensor.tolist, Tensor.__float__

    def stepped(*given: Any, **named: Any) -> Any:
        told.append("step")
        return step(*given, **named)

    def listed(tensor: Tensor) -> Any:
        told.append("read")
        return read(tensor)

    def single(tensor: Tensor) -> float:
        told.append("read")
        return number(tensor)

    monkeypatch.setattr(trainer._optimiser, "step", stepped)
    monkeypatch.setattr(Tensor, "tolist", listed)
    monkeypatch.setattr(Tensor, "__float__", single)
    [done] = trainer.steps()
    assert told == ["step", "read"]
    assert done.loss > 0


# Who is shown what.


def test_processes_share_a_step_and_leave_nothing_out() -> None:
    for step in range(3):
        shares = [numbers_of_step(step, 6, World(rank, 3)) for rank in range(3)]
        assert [n for share in shares for n in share] == list(numbers_of_step(step, 6))
    with pytest.raises(ConfigError, match=r"set student.clips_per_step to 8"):
        numbers_of_step(0, 6, World(0, 4))


@pytest.mark.slow
def test_workers_read_what_one_process_reads(videos: Videos) -> None:
    clips = Clips(videos, PseudoMasks(videos), Shape(2, 2))

    def shown(steps: Sequence[Sequence[Clip]]) -> Sequence[Any]:
        return [[(clip.text, clip.images[0].sum()) for clip in step] for step in steps]

    alone, read = (list(clips_of_steps(clips, range(3, 6), 2, workers=n)) for n in (0, 1))
    assert shown(alone) == shown(read)
    assert any(step[0].images is step[1].images for step in alone)
    for mine, theirs in zip(alone, read, strict=True):
        together = mine[0].images is mine[1].images
        assert (theirs[0].images is theirs[1].images) == together, "still encoded once"


# What it learns.


def mean_overlap(student: Student, videos: Videos) -> float:
    """Mean J of a student's masks in the frames where a target shows well."""
    scores = []
    student.eval()
    for video_id in videos.video_ids():
        video = videos.video(video_id)
        texts = [item.text for item in videos.expressions(video_id)]
        for part in predict_video(student, videos, video, texts, CPU):
            for row in range(len(texts)):
                for place, time in enumerate(part.frames):
                    truth = videos.drawn[video_id][time].masks[row]
                    if truth.sum() > 100:
                        scores.append(float(region_similarity(part.masks[row, place], truth)))
    assert len(scores) > 8
    return float(np.mean(scores))


def test_it_learns_two_videos_by_heart(videos: Videos) -> None:
    trainer = trainer_of(videos, CONFIG)
    losses = losses_of(trainer)
    assert np.mean(losses[-10:]) < 0.25 * np.mean(losses[:10])
    assert mean_overlap(trainer.student, videos) > 0.9


@pytest.mark.slow
def test_it_learns_masks_from_boxes_alone() -> None:
    class Boxed(Videos):
        def boxes(self, *asked: Any) -> Any:
            mask = self.truth(*asked)
            return masks_to_boxes(mask[None])[: int(mask.any())]

    scenes: list[Scene] = two_scenes()
    videos = Boxed(scenes)
    source = Annotations(videos, videos.samples(), BOXES)
    trainer = trainer_of(videos, CONFIG.model_copy(update={"mil": True}), source=source)
    losses_of(trainer)
    assert mean_overlap(trainer.student, videos) > 0.65


# Prediction.


@pytest.mark.parametrize("online", [False, True])
def test_predictions_cover_every_frame_of_every_sentence(videos: Videos, online: bool) -> None:
    student = SimRVOSStudent(tiny_model(), configured()).eval()
    video = videos.video("v0")
    texts = ["the red star", "the blue circle", "a cross"]
    seen: list[int] = []
    for part in predict_video(student, videos, video, texts, CPU, frames=3, online=online):
        count = len(part.frames)
        seen += part.frames
        assert part.masks.shape == (3, count, video.height, video.width)
        assert part.masks.dtype == bool and part.sure.dtype == np.float32
        assert part.sure.shape == (3, count)
        assert ((part.sure == 0) | (part.sure > 0.5)).all() and (part.sure <= 1).all()
        np.testing.assert_array_equal(part.sure > 0, part.masks.any((2, 3)))
        assert count == 1 or not online
    assert seen == list(range(len(video)))


def test_online_prediction_sees_no_frame_that_is_still_to_come(videos: Videos) -> None:
    class Asked(SimRVOSStudent):
        lengths: list[int] = []  # noqa: RUF012

        def predict(self, images: Tensor, texts: Sequence[str]) -> Tensor:
            self.lengths.append(len(images))
            return super().predict(images, texts)

    read: list[int] = []

    class Read(Videos):
        def frame(self, video: Any, index: Any) -> Any:
            read.append(int(index))
            return super().frame(video, index)

    student, source = Asked(tiny_model(), configured()).eval(), Read(two_scenes())
    video = source.video("v0")
    for part in predict_video(student, source, video, ["a star"], CPU, frames=3, online=True):
        assert max(read) == part.frames[-1]
    assert student.lengths == [1, 2, *[3] * (len(video) - 2)]
    assert read == list(range(len(video))), "each frame once"


def test_a_video_without_sentences_has_windows_without_masks(videos: Videos) -> None:
    student, video = SimRVOSStudent(tiny_model(), configured()).eval(), videos.video("v0")
    found = list(predict_video(student, videos, video, [], CPU, frames=3))
    assert [part.frames for part in found] == list(windows(len(video), 3))
    assert all(part.masks.shape == (0, 3, video.height, video.width) for part in found[:-1])
    assert found[0].sure.shape == (0, 3)


def test_windows_cover_a_video() -> None:
    assert list(windows(7, 3)) == [range(3), range(3, 6), range(6, 7)]
    assert list(windows(0, 3)) == []


@pytest.mark.slow
def test_eight_clips_by_heart(videos: Videos) -> None:
    """J above 95 on the frames themselves: what the network cannot show, it cannot learn."""
    config = CONFIG.model_copy(
        update={
            "steps": 260,
            "short_side": 240,
            "learning_rate": 3e-3,
            "simrvos": SimrvosConfig(focal_weight=20.0),
        }
    )
    trainer = trainer_of(videos, config)
    whole = Clips(videos, PseudoMasks(videos), Shape(1), views=ViewsConfig(mirror=False))
    drawn = [clip for number in range(60) for clip in whole[number] if clip.mask.sum() > 400]
    clips = list({(clip.text, clip.mask.tobytes()): clip for clip in drawn}.values())[:8]
    assert len(clips) == 8
    for _ in range(config.steps):
        trainer.take(clips)
        trainer.step += 1
    trainer.student.eval()
    scores = []
    for clip in clips:
        with torch.no_grad():
            logits = trainer.student.predict(torch.from_numpy(np.stack(clip.images)), [clip.text])
        shown = resize_logits(logits[0], *clip.size).numpy() > 0
        scores.append(float(region_similarity(shown[0], clip.mask[0])))
    assert np.mean(scores) > 0.95, scores
