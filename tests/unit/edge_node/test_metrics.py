"""What a scrape of a node shows."""

from pathlib import Path

from edge_node.metrics import Numbers, exposition


def zone(folder: Path, number: int, kind: str, temp: str | None) -> None:
    made = folder / f"thermal_zone{number}"
    made.mkdir(parents=True)
    (made / "type").write_text(f"{kind}\n")
    if temp is not None:
        (made / "temp").write_text(f"{temp}\n")


def lines(numbers: Numbers, thermal: Path) -> dict[str, float]:
    told = exposition(lambda: numbers, thermal)().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in told if not line.startswith("#"))}


def test_numbers_are_shown_under_their_names(tmp_path: Path) -> None:
    told = lines(Numbers(frames=11, scored=7, gaps=2, lost_s=0.5, ring=0.25, returns=1, waiting=3, dropped=4), tmp_path)
    assert {name.removeprefix("sarvis_edge_"): value for name, value in told.items()}.items() >= {
        "frames_total": 11,
        "scored_total": 7,
        "xruns_total": 2,
        "lost_seconds_total": 0.5,
        "ring": 0.25,
        "microphone_returns_total": 1,
        "wakes_waiting": 3,
        "wakes_dropped_total": 4,
    }.items()


def test_zones_of_heat_are_shown_in_degrees_and_one_that_is_switched_off_is_left_out(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "48500")
    zone(tmp_path, 1, "gpu-thermal", None)
    zone(tmp_path, 2, "tj-thermal", "hot")
    zone(tmp_path, 10, "soc0-thermal", "-1250")
    told = lines(Numbers(), tmp_path)
    name = "sarvis_edge_temperature_celsius"
    assert {line: value for line, value in told.items() if line.startswith(name)} == {
        f'{name}{{zone="cpu-thermal"}}': 48.5,
        f'{name}{{zone="soc0-thermal"}}': -1.25,
    }


def test_a_machine_without_zones_has_all_the_rest(tmp_path: Path) -> None:
    assert lines(Numbers(frames=1), tmp_path / "none")["sarvis_edge_frames_total"] == 1
