import json
from pathlib import Path

import numpy as np
import pytest
import soxr
from typer.testing import CliRunner, Result

from contract.errors import SarvisError
from edge_node.audio.soundfiles import read_wav
from edge_node.audio.wav import wav
from edge_node.recordings.folder import Kept, TriggerFolder
from edge_node.session.state_file import StateFile
from edge_node.wakeword_cli import app
from tests.unit.edge_node.enrollment.sounds import noise

pytestmark = [pytest.mark.usefixtures("logging_as_it_was"), pytest.mark.slow]

DATA = Path(__file__).parents[3] / "data"
SPEAKER = DATA / "ssabiseu_em_alex.wav"
STRANGER = DATA / "ssabiseu_jf_nezumi.wav"


class Place:
    """A device's state, and recordings to teach it with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.voice = folder / "state" / "jetson.voice"
        self.triggers = TriggerFolder(folder / "state", "jetson")
        self.words = [folder / f"word{number}.wav" for number in range(10)]
        for file, speed in zip(self.words, np.linspace(0.96, 1.06, 10), strict=True):
            file.write_bytes(wav(soxr.resample(read_wav(SPEAKER), 16_000 * speed, 16_000)))
        self.talk, self.room = DATA / "jarvis_near_miss.wav", folder / "room.wav"
        self.room.write_bytes(wav(noise(2.0, -65.0)))

    def enroll(self, *arguments: str) -> Result:
        named = ["--device-id", "jetson", "--state-dir", str(self.folder / "state")]
        result: Result = CliRunner().invoke(app, ["enroll", *named, *arguments])
        return result

    def learn(self, *arguments: str) -> Result:
        words = [str(file) for file in self.words]
        return self.enroll("--wav", *words, "--speech", str(self.talk), "--room", str(self.room), *arguments)

    def label(self, file: Path, label: str) -> None:
        """The node kept this, and a person said what it is."""
        kept = Kept("20260131T101502.123Z", "trigger", 0.8, "other" if label == "other" else "word", 0)
        self.triggers.path.mkdir(parents=True, exist_ok=True)
        (self.triggers.path / kept.name).write_bytes(file.read_bytes())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def learned_once(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A voice's file."""
    place = Place(tmp_path_factory.mktemp("learned"))
    told(place.learn())
    return place.voice.read_text()


@pytest.fixture
def taught(place: Place, learned_once: str) -> Place:
    """A place with that voice."""
    place.voice.parent.mkdir()
    place.voice.write_text(learned_once)
    return place


def told(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def test_a_voice_is_learned_from_files_shown_and_removed(place: Place) -> None:
    assert "No voice is stored" in told(place.enroll("--show"))
    recordings = {file.name for file in place.folder.iterdir()}
    learned = told(place.learn())
    assert "0 of 10 words missed" in learned
    assert "The node takes it when it starts." in learned
    assert place.voice.stat().st_mode & 0o777 == 0o600
    assert {file.name for file in place.folder.rglob("*") if file.is_file()} - recordings == {"jetson.voice"}
    shown = told(place.enroll("--show"))
    assert str(place.voice) in shown
    assert "0 of 10 words missed" in shown
    assert "deleted" in told(place.enroll("--remove"))
    assert not place.voice.exists()
    assert "There was no voice" in told(place.enroll("--remove"))


def test_the_sound_is_kept_only_if_that_is_asked_for(place: Place) -> None:
    told(place.learn("--keep-audio", str(place.folder / "audio")))
    assert len(list((place.folder / "audio").iterdir())) == 12
    assert sorted(file.name for file in place.voice.parent.iterdir()) == ["jetson.voice"]


@pytest.mark.parametrize("count", [9, 21])
def test_too_few_and_too_many_words_are_a_usage_error_and_change_nothing(place: Place, count: int) -> None:
    place.words = [*place.words, *place.words, place.words[0]][:count]
    result = place.learn()
    assert isinstance(result.exception, SarvisError)
    assert result.exception.exit_code == 2
    assert str(result.exception) == f"10 to 20 utterances of the word are needed, not {count}"
    asked = place.enroll("--words", str(count), "--source", "silence")
    assert str(asked.exception) == str(result.exception)
    assert not place.voice.exists()


def test_what_was_labelled_is_learned_from_without_speaking_again(taught: Place) -> None:
    before = json.loads(taught.voice.read_text())
    taught.label(STRANGER, "other")
    assert "0 of 1 sounds taken for it that were labelled" in told(taught.enroll("--refit"))
    taught.label(SPEAKER, "word")
    assert "0 of 11 words missed" in told(taught.enroll("--refit"))
    after = json.loads(taught.voice.read_text())
    assert after["labelled_others"] < [after["threshold"]]
    assert after["verifier"] != before["verifier"]
    assert after["memory"] == before["memory"]


def test_labels_are_learned_from_by_the_next_enrolment_too(place: Place) -> None:
    place.label(STRANGER, "other")
    assert "0 of 1 sounds taken for it that were labelled" in told(place.learn())


def test_a_node_that_runs_takes_it_at_once(taught: Place) -> None:
    node = StateFile(taught.voice.parent, "jetson")
    node.open()
    assert "The node that runs takes it within a second." in told(taught.enroll("--refit"))
    assert "The node that runs goes back to the model alone within a second." in told(taught.enroll("--remove"))
    node.close()


def test_there_is_nothing_to_refit_without_a_voice(place: Place) -> None:
    assert "enrol first" in str(place.enroll("--refit").exception)


def test_recordings_are_judged_with_a_voice(taught: Place) -> None:
    taught.label(STRANGER, "other")
    told(taught.enroll("--refit"))

    def fires(file: Path, *arguments: str) -> bool:
        result = CliRunner().invoke(app, ["score", *arguments, str(file)])
        return bool(json.loads(told(result))["fired"])

    voice = ("--voice", str(taught.voice))
    assert (fires(STRANGER), fires(STRANGER, *voice)) == (True, False)
    assert (fires(SPEAKER), fires(SPEAKER, *voice)) == (True, True)


@pytest.mark.parametrize("threshold", ["0.0", "1.5", "NaN"])
def test_a_voice_whose_threshold_is_none_is_damaged(taught: Place, threshold: str) -> None:
    taught.voice.write_text(taught.voice.read_text().replace('"threshold": 0.5', f'"threshold": {threshold}'))
    assert "is damaged" in str(taught.enroll("--show").exception)


def test_a_voice_that_is_none_is_named(place: Place) -> None:
    place.voice.parent.mkdir()
    place.voice.write_text("none")
    assert "jetson.voice: is not a voice" in str(place.enroll("--show").exception)
    result = CliRunner().invoke(app, ["score", "--voice", str(place.voice), str(SPEAKER)])
    assert (result.exit_code, "is not a voice" in result.stderr) == (2, True)


def test_a_voice_of_another_model_is_refused(taught: Place) -> None:
    taught.voice.write_text(taught.voice.read_text().replace('"model_sha256": "', '"model_sha256": "0'))
    assert "learned with another model" in str(taught.enroll("--show").exception)


def test_another_engine_is_refused_before_anybody_speaks(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARVIS_EDGE__ENGINE", "openwakeword")
    assert "edge.engine = native" in str(place.enroll("--source", "silence").exception)


def test_a_state_folder_that_cannot_be_written_is_an_error_that_says_who_may(place: Place) -> None:
    place.voice.parent.touch()
    # Before anybody speaks.
    result = place.enroll("--source", "silence")
    assert "run this as the user of the node" in str(result.exception)
    assert result.output == ""


def test_a_device_without_a_name_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["enroll", "--show"])
    assert "name the device with --device-id" in str(result.exception)
