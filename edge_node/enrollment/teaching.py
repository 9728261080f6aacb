"""Turns recordings and labels into a voice, and prints the progress."""

import errno
import math
import os
from pathlib import Path

from contract.errors import SettingsError
from edge_node.audio.soundfiles import read_wav
from edge_node.enrollment.learn import learn_again, learn_voice, rehearse
from edge_node.enrollment.recording import Recorded
from edge_node.enrollment.takes import Samples
from edge_node.recordings.folder import Label, TriggerFolder
from edge_node.session.state_file import in_use
from edge_node.wakeword.native import Head
from edge_node.wakeword.voice import Voice
from edge_node.wakeword.voice_watch import Learned, voice_path
from infra.readable import is_there
from infra.settings.edge import EdgeSettings
from infra.telemetry import get_logger

_NORMAL_95 = 1.96

log = get_logger("teaching")


def check(edge: EdgeSettings, device_id: str) -> None:
    """SettingsError if the lesson would be useless: no model, another engine, an unwritable folder."""
    if edge.engine != "native":
        raise SettingsError("a voice needs edge.engine = native")
    Head(edge.model)
    path = voice_path(edge.state_dir, device_id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unusable(path, error) from error


def taught(edge: EdgeSettings, device_id: str, recorded: Recorded) -> list[str]:
    """Learn, rehearse, store, report.

    Raises SettingsError if the engine does not recognise the lesson or the voice cannot be stored, and what
    `learn_voice` raises: then nothing changed.
    """
    folder = TriggerFolder(edge.state_dir, device_id)
    voice = learn_voice(
        recorded.words,
        recorded.speech,
        recorded.room,
        hard_positives=labelled(folder, "word"),
        hard_negatives=labelled(folder, "other"),
        model=edge.model,
    )
    rehearsed = rehearse(Learned.of(voice, edge.model), recorded.words, recorded.speech, recorded.room, edge.model)
    if rehearsed.heard * 2 < rehearsed.words:
        raise SettingsError(
            f"the self-test failed: the engine recognised {rehearsed.heard} of these {rehearsed.words} words; "
            f"nothing was "
            "changed. Try again, nearer to the microphone"
        )
    test = (
        f"Self-test: the engine itself recognised {rehearsed.heard} of {rehearsed.words} words, "
        f"and woke {rehearsed.woken} times at other sound."
    )
    return [*report(voice), test, _stored(voice, edge, device_id)]


def refitted(edge: EdgeSettings, device_id: str) -> list[str]:
    """Learn again from the stored memory and today's labels; SettingsError if there is no voice."""
    path = voice_path(edge.state_dir, device_id)
    if not is_there(path):
        raise SettingsError("no voice is stored: enrol first with `sarvis wakeword enroll`")
    folder = TriggerFolder(edge.state_dir, device_id)
    before = Voice.load(path, edge.model)
    voice = learn_again(before, labelled(folder, "word"), labelled(folder, "other"), edge.model)
    return [*report(voice), _stored(voice, edge, device_id)]


def removed(edge: EdgeSettings, device_id: str) -> str:
    """Delete the voice; returns lines for the user."""
    path = voice_path(edge.state_dir, device_id)
    try:
        path.unlink()
    except FileNotFoundError:
        return "There was no voice; the node uses the model alone."
    except OSError as error:
        raise _unusable(path, error) from error
    return f"The voice is deleted. {_when(edge, device_id, 'goes back to the model alone')}"


def shown(edge: EdgeSettings, device_id: str) -> list[str]:
    """What is stored on this device."""
    path = voice_path(edge.state_dir, device_id)
    try:
        found = path.stat()
    except FileNotFoundError:
        told = ["No voice is stored; the node uses the model alone."]
    except OSError as error:
        raise _unusable(path, error) from error
    else:
        told = [f"{path}, {found.st_size} bytes", *report(Voice.load(path, edge.model))]
    kept = TriggerFolder(edge.state_dir, device_id).all()
    waiting = sum(one.label == "new" for one in kept)
    return [*told, f"Recordings taken for the word, or nearly: {len(kept)}, of them {waiting} without a label."]


def report(voice: Voice) -> list[str]:
    """The description of a voice, in lines."""
    words = len(voice.words) + len(voice.labelled_words)
    labels = len(voice.labelled_words) + len(voice.labelled_others)
    others = len(voice.talk) + len(voice.room)
    taken = sum(score >= voice.threshold for score in voice.labelled_others)
    low, high = likely(voice.missed, words)
    missed = (
        f"{low:.0%} to {high:.0%} of words missed; each judged by what the others taught, {voice.missed} of {words}"
    )
    how = "a verifier and a threshold" if voice.verifier is not None else "a threshold alone: this model has no grounds"
    per_hour = voice.false_accepts_per_hour
    expected = (
        [f"  Expected: {per_hour:.2f} false accepts in an hour of other people's speech and films."]
        if per_hour is not None
        else []
    )
    return [
        f"Learned {voice.made_at} from {words} times the word, {others} s of other sound and {labels} labels: {how}.",
        f"Threshold {voice.threshold:.3f}.",
        f"  Expected: {missed} words missed.",
        *expected,
        f"  {voice.false_accepts - taken} of {others} s of other sound taken for it,",
        f"  {taken} of {len(voice.labelled_others)} sounds taken for it that were labelled as not the word.",
    ]


def likely(hits: int, tries: int) -> tuple[float, float]:
    """The shares, 0 to 1, that agree with such a count: Wilson's interval of 95 %."""
    if not tries:
        return 0.0, 1.0
    squared, share = _NORMAL_95**2, hits / tries
    middle = share + squared / (2 * tries)
    aside = _NORMAL_95 * math.sqrt(share * (1.0 - share) / tries + squared / (4 * tries**2))
    whole = 1.0 + squared / tries
    return max((middle - aside) / whole, 0.0), min((middle + aside) / whole, 1.0)


def labelled(folder: TriggerFolder, label: Label) -> list[Samples]:
    """The sound of all recordings with this label, oldest first; unreadable ones are logged and left out."""
    try:
        wanted = [folder.path / kept.name for kept in folder.all() if kept.label == label]
    except OSError as error:
        raise _unusable(folder.path, error) from error
    found = []
    for file in wanted:
        try:
            found.append(read_wav(file))
        except SettingsError as error:
            log.warning("label_left_out", why=str(error))
    return found


def _stored(voice: Voice, edge: EdgeSettings, device_id: str) -> str:
    path = voice_path(edge.state_dir, device_id)
    try:
        voice.save(path)
    except OSError as error:
        raise _unusable(path, error) from error
    return f"The voice is stored in {path}. {_when(edge, device_id, 'takes it')}"


def _when(edge: EdgeSettings, device_id: str, what: str) -> str:
    if in_use(edge.state_dir, device_id):
        return f"The node that runs {what} within a second."
    return f"The node {what} when it starts."


def _unusable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(f"{path} cannot be used: {error.strerror}; run this as the user of the node")
