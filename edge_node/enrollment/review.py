"""Shows, plays, labels and deletes recorded triggers in a terminal."""

import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from contract.errors import SettingsError
from edge_node.child_process import Child, how_it_ended
from edge_node.recordings.folder import Kept, Label, TriggerFolder

PLAYERS = ("paplay", "aplay -q", "pw-play")
LABELS: dict[str, Label] = {"w": "word", "n": "other"}
KEYS = "p play, w the word, n not the word, f delete, Enter next, q end"

_PLAY_S = 30.0
_CALLED = {"trigger": "taken for the word", "near": "nearly taken for it"}
_LABELLED = {"new": "", "word": ", labelled: the word", "other": ", labelled: not the word"}

Say = Callable[[str], None]


def line(kept: Kept) -> str:
    """One recording, as a line for people."""
    when = kept.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return f"{kept.id}  {when}  {kept.score:.3f}  {_CALLED[kept.kind]}{_LABELLED[kept.label]}"


def chosen(folder: TriggerFolder, wanted: str) -> list[Kept]:
    """The recordings of one argument: an id, or `all`; SettingsError if there are none."""
    found = [kept for kept in folder.all() if wanted in {"all", kept.id}]
    if not found and wanted != "all":
        raise SettingsError(f"there is no recording {wanted}: `sarvis wakeword review --list` shows all")
    return found


def player(command: str | None) -> list[str]:
    """The command that plays a file: `edge.sound_command`, or a player of this machine; SettingsError without one."""
    candidates = (command,) if command else PLAYERS
    for candidate in candidates:
        words = shlex.split(candidate)
        if shutil.which(words[0]):
            return words
    raise SettingsError(f"there is no {' and no '.join(candidates)} to play it with: install one, or copy the files")


def walk(folder: TriggerFolder, lines: Iterator[str], say: Say, play: Callable[[Path], None]) -> None:
    """Show unlabelled recordings one after the other, and do what the entered lines say; ends with them."""
    waiting = [kept for kept in folder.all() if kept.label == "new"]
    if not waiting:
        say("Nothing waits for a label.")
        return
    say(f"{len(waiting)} to look at. {KEYS}.")
    for place, kept in enumerate(waiting, start=1):
        say(f"{place} of {len(waiting)}: {line(kept)}")
        if not _one(folder, kept, lines, say, play):
            return


def _one(folder: TriggerFolder, kept: Kept, lines: Iterator[str], say: Say, play: Callable[[Path], None]) -> bool:
    """Whether to go on."""
    for answer in lines:
        match answer.strip().lower():
            case "":
                return True
            case "p":
                play(folder.path / kept.name)
            case "w" | "n" as letter:
                try:
                    folder.label(kept, LABELS[letter])
                except FileNotFoundError:
                    say("It was deleted meanwhile: it was too old, or the folder was full.")
                return True
            case "f":
                folder.forget(kept)
                return True
            case "q":
                return False
            case _:
                say(KEYS)
    return False


def play_with(command: str | None, say: Say) -> Callable[[Path], None]:
    """Play a file to its end, as `player` says; a failure is printed: a node may have no loudspeaker."""

    def play(file: Path) -> None:
        try:
            words = player(command)
        except SettingsError as error:
            say(f"{error}: {file}")
            return
        try:
            child = Child([*words, str(file)])
        except OSError as error:
            say(f"{words[0]} did not play it: {error}")
            return
        try:
            status = child.wait(_PLAY_S)
        finally:
            child.end()
        if status is None:
            say(f"{words[0]} did not play it: it took longer than {_PLAY_S:g} s, and was ended")
        elif status:
            how = f"ended with {status}" if status > 0 else how_it_ended(status)
            say(f"{words[0]} did not play it (it {how})")

    return play
