from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pipeline.config import MAX_SEED, config_from, dump_config, load_config
from pipeline.errors import ConfigError


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "", "cpu:0", "nosuch"])
def test_a_device_that_there_is_nowhere_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda, cuda:N or mps"):
        load_config(None, [f'device="{name}"'])


@pytest.mark.parametrize("name", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])
def test_a_device_that_there_may_be_passes(name: str) -> None:
    assert load_config(None, [f"device={name}"]).device == name


@pytest.mark.parametrize("key", ["seed", "shapes.seed"])
@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 99999999999999999999])
def test_a_seed_that_some_generator_does_not_take_is_refused(key: str, seed: int) -> None:
    with pytest.raises(ConfigError, match=key):
        load_config(None, [f"{key}={seed}"])
    assert load_config(None, [f"{key}={MAX_SEED}"])


@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
def test_a_number_that_is_none_is_refused(value: str) -> None:
    for key in ("student.learning_rate", "augment.timeout_seconds", "student.simrvos.focal_weight"):
        with pytest.raises(ConfigError, match=key):
            load_config(None, [f"{key}={value}"])


def test_the_home_folder_is_put_in_every_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = (
        "dataset.root", "out", "augment.file", "augment.checkpoint", "ground.checkpoint",
        "ground.text_encoder", "ground.adapter", "segment.checkpoint", "student.masks",
        "student.start", "student.encoders.text_encoder",
    )  # fmt: skip
    config = load_config(None, [f"{key}=~/place" for key in keys])
    for key in keys:
        value: object = config
        for part in key.split("."):
            value = getattr(value, part)
        assert str(value) == str(tmp_path / "place"), key
    assert load_config(None).ground.checkpoint == "demo:ground"
    assert str(load_config(None, ["out=a~b"]).out) == "a~b"
    with pytest.raises(ConfigError, match=r"out: .*give the whole path"):
        load_config(None, ["out=~nosuchuser/runs"])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("rank.treshold=1", "rank.threshold"),
        ("threshold=0.5", "rank.threshold"),
        ("student.shard_videos=2", "shard_videos"),
        ("dataset.rot=x", "dataset.root"),
        ("datset.root=x", "dataset"),
    ],
)
def test_a_wrong_name_is_told_with_the_right_one(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match="no such setting; did you mean .*" + right):
        load_config(None, [wrong])
    with pytest.raises(ConfigError, match=r"xyzzy: no such setting$"):
        load_config(None, ["xyzzy=1"])


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://me:hunter2@host/v1",
        "https://hunter2@host/v1",
        "https://host/v1?api_key=hunter2",
        "https://host/v1#hunter2",
    ],
)
def test_an_endpoint_with_a_secret_in_it_is_refused_and_not_repeated(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as error:
        load_config(None, [f'augment.endpoint="{endpoint}"'])
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize("endpoint", ["host/v1", "ftp://host", "http:///v1"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="http"):
        load_config(None, [f'augment.endpoint="{endpoint}"'])


def test_channels_that_no_student_can_be_built_with_are_refused() -> None:
    for words in (["student.channels=20"], ["student.model=wsrvos", "student.channels=20"]):
        with pytest.raises(ConfigError, match="multiple"):
            load_config(None, words)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_configuration(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes('[dataset]\r\nname = "refytvos"\r\n'.encode(encoding))
    assert load_config(path).dataset.name == "refytvos"


def test_what_is_no_text_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(tmp_path / "run.toml")


def test_links_are_followed_unless_the_configuration_says_otherwise() -> None:
    assert load_config(None).dataset.links == "follow"
    assert load_config(None, ["dataset.links=inside"]).dataset.links == "inside"
    with pytest.raises(ConfigError, match=r"dataset\.links"):
        load_config(None, ["dataset.links=none"])


@pytest.mark.parametrize("model", ["grounded", "simrvos", "referformer", "wsrvos", "groprompt"])
def test_a_student_has_its_own_section_and_no_other(model: str) -> None:
    config = load_config(None, [f"student.model={model}", "student.steps=7"])
    assert (config.student.model, config.student.steps) == (model, 7)
    assert config_from(tomllib.loads(dump_config(config)), "itself") == config
    sections = {
        "grounded": "instances=4",
        "simrvos": "fusion='vision'",
        "referformer": "queries=3",
        "wsrvos": "selection=false",
        "groprompt": "text_weight=0.0",
    }
    for name, setting in sections.items():
        words = [f"student.model={model}", f"student.{name}.{setting}"]
        if name == model:
            load_config(None, words)
        else:
            with pytest.raises(ConfigError, match=f"student.{name}: not a setting of .*'{model}'"):
                load_config(None, words)


def test_a_student_that_is_not_named_follows_from_its_settings_and_an_unknown_one_is_refused() -> (
    None
):
    assert load_config(None, ["student.steps=7"]).student.model == "grounded"
    assert load_config(None, ["student.simrvos.lgcfs=true"]).student.model == "simrvos"
    assert load_config(None, ["student.supervision=text"]).student.model == "wsrvos"
    assert load_config(None, ["student.supervision=flow"]).student.model == "simrvos"
    with pytest.raises(
        ConfigError, match=r"student\.model: .*'nosuch'.*'grounded', 'simrvos', 'referformer'"
    ):
        load_config(None, ["student.model=nosuch"])


def test_another_student_than_the_files_starts_from_its_own_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(dump_config(load_config(None, ["student.enabled=false", "student.steps=7"])))
    for model in ("simrvos", "referformer", "wsrvos", "groprompt"):
        plain = load_config(None, [f"student.model={model}", "student.enabled=false"])
        assert load_config(path, [f"student.model={model}"]) == plain
    assert load_config(path, ["student.model=grounded"]).student.steps == 7


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("student.fusion='both'", "student.simrvos.fusion or student.wsrvos.fusion"),
        ("student.simrvos.lgfcs=true", "student.simrvos.lgcfs"),
        ("student.training.wrokers=2", "student.training.workers"),
    ],
)
def test_a_wrong_name_of_a_students_setting_is_told_with_the_right_one(
    wrong: str, right: str
) -> None:
    with pytest.raises(ConfigError, match="did you mean .*" + right):
        load_config(None, [wrong])


@pytest.mark.parametrize(
    ("model", "supervision"),
    [
        ("grounded", "text"),
        ("simrvos", "text"),
        ("referformer", "flow"),
        ("wsrvos", "flow"),
        ("wsrvos", "boxes"),
        ("groprompt", "text"),
    ],
)
def test_a_student_is_refused_what_it_cannot_learn_from(model: str, supervision: str) -> None:
    with pytest.raises(ConfigError, match=f"supervision '{supervision}' with model '{model}'"):
        load_config(None, [f"student.model={model}", f"student.supervision={supervision}"])


def test_only_videos_are_sampled() -> None:
    words = ["dataset.frames_per_second=2.5", "dataset.max_size=640"]
    config = load_config(None, ["dataset.name=videos", *words])
    assert config.dataset.sampling == {"frames_per_second": 2.5, "max_size": 640}
    assert load_config(None).dataset.sampling == {}
    with pytest.raises(ConfigError, match="frames_per_second and max_size with the data set"):
        load_config(None, words)
