import numpy as np
import pytest

from contract.errors import SettingsError
from edge_node.enrollment.prompter import Plan, Prompter
from tests.unit.edge_node.enrollment.sounds import Samples, frames, noise, said, silence, tone

WORD = said(silence(0.6), tone(0.8, -25.0), silence(0.8))
LOUD = said(silence(0.6), tone(0.8, 0.0), silence(0.8))


class Teacher:
    """Somebody who is led through it."""

    def __init__(self, plan: Plan | None = None) -> None:
        self.prompter = Prompter(plan or Plan(words=10, speech_s=2.0, room_s=1.0))
        self.told = self.prompter.begin()

    def types(self, text: str = "") -> list[str]:
        return self._told(self.prompter.line(text))

    def hears(self, samples: Samples) -> list[str]:
        return self._told([line for frame in frames(samples) for line in self.prompter.feed(frame)])

    def is_at_the_words(self) -> None:
        self.types()
        self.hears(noise(2.0, -60.0))
        self.types()

    def _told(self, lines: list[str]) -> list[str]:
        self.told += lines
        return lines


def test_a_teacher_is_led_from_the_room_over_the_words_to_other_talk() -> None:
    teacher = Teacher()
    teacher.is_at_the_words()
    for number in range(1, 11):
        assert teacher.told[-1].startswith(f"   {number} of 10: «싸비스», ")
        assert teacher.hears(WORD)[0].startswith("   Good: 0.8 s, 3")
    assert teacher.told[-2].startswith("3. Other speech, 2 s")
    teacher.types()
    teacher.hears(said(silence(0.5), tone(3.0, -25.0)))
    assert teacher.prompter.done
    assert len(teacher.prompter.words) == 10
    assert len(teacher.prompter.room) / 16_000 == pytest.approx(1.0, abs=0.08)
    assert len(teacher.prompter.speech) / 16_000 > 2.0


def test_nothing_is_recorded_before_enter_and_the_sound_of_the_key_is_not_either() -> None:
    teacher = Teacher()
    assert teacher.hears(tone(2.0, -25.0)) == []
    assert len(teacher.prompter.room) == 0
    teacher.types()
    teacher.hears(tone(0.4, -10.0))
    teacher.hears(noise(1.2, -60.0))
    assert "   The room is at -60 dB." in teacher.told


def test_an_unfit_utterance_is_asked_for_again_with_its_reason() -> None:
    teacher = Teacher()
    teacher.is_at_the_words()
    (again,) = teacher.hears(LOUD)
    assert again.startswith("   Again, please: too loud")
    assert teacher.prompter.words == []
    assert teacher.hears(WORD)[-1].startswith("   2 of 10")


def test_the_last_utterance_can_be_taken_back() -> None:
    teacher = Teacher()
    teacher.is_at_the_words()
    teacher.hears(WORD)
    assert teacher.types("r")[-1].startswith("   1 of 10")
    assert teacher.prompter.words == []


def test_a_person_who_is_too_quiet_is_told_repeatedly() -> None:
    teacher = Teacher()
    teacher.is_at_the_words()
    told = teacher.hears(noise(26.0, -60.0))
    assert ["No word was recorded" in line for line in told] == [True, True]


def test_a_muted_microphone_is_noticed() -> None:
    teacher = Teacher()
    teacher.types()
    assert "   Nothing but zeros came: is the microphone muted, or is this the wrong one?" in teacher.hears(
        silence(2.0)
    )


def test_a_person_who_does_not_speak_is_asked_to_try_again() -> None:
    teacher = Teacher()
    teacher.is_at_the_words()
    for _ in range(10):
        teacher.hears(WORD)
    teacher.types()
    told = teacher.hears(said(silence(0.5), tone(0.8, -25.0), silence(8.0)))
    assert told[-1].startswith("   Only 1 s of that were speech")
    teacher.types()
    teacher.hears(said(silence(0.5), tone(0.8, -25.0), silence(2.0)))
    assert not teacher.prompter.done
    teacher.hears(said(silence(0.5), tone(3.0, -25.0)))
    assert teacher.prompter.done


def test_progress_is_told_every_ten_seconds() -> None:
    teacher = Teacher(Plan(words=10, room_s=30.0))
    teacher.types()
    assert teacher.hears(noise(25.0, -60.0)) == ["   10 of 30 s", "   20 of 30 s"]


def test_q_stops_at_any_time() -> None:
    teacher = Teacher()
    teacher.is_at_the_words()
    teacher.types("Q")
    assert teacher.prompter.stopped
    assert teacher.hears(WORD) == []


@pytest.mark.parametrize("words", [0, 9, 21])
def test_too_few_and_too_many_utterances_are_refused(words: int) -> None:
    with pytest.raises(SettingsError, match=f"10 to 20 utterances of the word are needed, not {words}"):
        Plan(words=words)


def test_no_time_for_the_rest_is_refused() -> None:
    with pytest.raises(SettingsError, match="some seconds each"):
        Plan(room_s=0.0)


def test_what_is_recorded_is_what_was_said() -> None:
    teacher = Teacher()
    teacher.is_at_the_words()
    teacher.hears(WORD)
    assert np.abs(teacher.prompter.words[0].astype(int)).max() == np.abs(WORD.astype(int)).max()


def test_a_muted_microphone_is_noticed_also_through_a_program_that_adds_dither() -> None:
    teacher = Teacher()
    teacher.types()
    dither = np.random.default_rng(1).integers(-1, 2, len(silence(2.0))).astype(np.int16)
    assert any("Nothing but zeros came" in line for line in teacher.hears(dither))
