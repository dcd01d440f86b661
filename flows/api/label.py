"""Labels videos from Python, as the command ``pseudolabels label`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.api.results import LabelledRun
from flows.commands.run import check_new_run, run_all
from flows.console import Output
from flows.exchange.own_videos import Request, check_request, label_config, with_request
from flows.planning.presets import config_of_preset
from flows.weights.needs import check_weights, fetch_command, preset_of_this_machine
from pipeline.errors import ConfigError


def label(
    videos: str | Path | Sequence[str | Path],
    texts: str | Sequence[str],
    *,
    out: str | Path = "labels",
    config: str | Path | None = None,
    preset: str | None = None,
    device: str | None = None,
    frames_per_second: float | None = None,
    max_size: int | None = None,
    start: float | None = None,
    end: float | None = None,
    settings: Sequence[str] = (),
    quiet: bool = False,
) -> LabelledRun:
    """Makes masks of what sentences describe in videos.

    Without ``config`` and ``preset``, the preset that fits this machine is used, as on the command
    line. Finished work is kept: a second call with the same arguments only reads the results.

    Args:
        videos: video files, or folders of frames.
        texts: sentences, each about every video.
        out: folder for the run; nothing is written beside the videos.
        config: TOML file with settings.
        preset: ``demo``, ``small``, ``base`` or ``large``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        frames_per_second: frames that are taken of a second; None for all.
        max_size: longest side of the frames in pixels; None for as they are.
        start, end: the part to label, in seconds, or in frames of a folder.
        settings: such as ``rank.threshold=0.6``.
        quiet: print nothing.

    Returns:
        The results of these videos, one item per video and sentence.

    Raises:
        ConfigError: an argument does not fit.
        InputError: no video can be read.
        CheckpointError: weights are missing.
        PseudoLabelError: the work failed.
    """
    if config is not None and preset is not None:
        raise ConfigError(f"config={config} with preset={preset}; expected one of them; leave one")
    paths = [videos] if isinstance(videos, str | Path) else videos
    sentences = [texts] if isinstance(texts, str) else texts
    unique = tuple(dict.fromkeys(Path(path).expanduser() for path in paths))
    request = Request(unique, tuple(dict.fromkeys(sentences)), start, end)
    if config is None and preset is None:
        preset = preset_of_this_machine(settings)
    file = Path(config) if config is not None else config_of_preset(preset) if preset else None
    resolved = label_config(
        Path(out), file, settings, device=device, rate=frames_per_second, max_size=max_size
    )
    check_request(request, resolved.dataset.frames_per_second)
    check_new_run(resolved)
    named = Path(config) if config is not None else None
    check_weights(resolved, fetch_command(named, preset, tuple(settings)))
    resolved = with_request(request, resolved)
    console = Output()
    console.quiet = quiet
    run_all(resolved, console)
    return LabelledRun(resolved, videos=resolved.dataset.only_videos)
