from pathlib import Path

from benchmarks.track_memory import do_track, write_inputs


def test_the_stage_tracks_what_is_written_for_it(tmp_path: Path) -> None:
    write_inputs(tmp_path, 6, (144, 256), "association")
    assert do_track(tmp_path, "association") > 0
    assert (tmp_path / "runs" / "refytvos-train" / "track" / "00000.parquet").is_file()
