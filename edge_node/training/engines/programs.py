"""Synthesisers that are programs: espeak-ng, flite and festival, one process per line."""

import io
import re
import subprocess
import tempfile
from pathlib import Path

import soundfile

from contract.errors import SettingsError
from edge_node.training.engines.seam import CannotSayError, Line, Sound, at_16k

_TIMEOUT_S = 30
_ESPEAK_WORDS_PER_MINUTE = 160
_ESPEAK_PITCH = 50
_HTS_PITCH_HZ = 175


def espeak(line: Line) -> Sound:
    """espeak-ng; a voice is `ko+f3`."""
    pitch = round(min(max(_ESPEAK_PITCH * line.pitch, 0), 99))
    command = ["espeak-ng", "-v", line.voice, "-s", str(round(_ESPEAK_WORDS_PER_MINUTE * line.speed)), "-p", str(pitch)]
    return _read(_run([*command, "--stdout", "--", line.say]))


def flite(line: Line) -> Sound:
    """Flite; says phones of American English (`s aa1 b iy s uw`) or, after `text:`, text."""
    say = ["-t", line.say.removeprefix("text:")] if line.say.startswith("text:") else ["-p", f"pau {line.say} pau"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "said.wav"
        settings = ["--setf", f"duration_stretch={1 / line.speed:.3f}"]
        if line.pitch != 1.0:
            settings += ["--setf", f"int_f0_target_mean={_HTS_PITCH_HZ * line.pitch:.0f}"]
        _run(["flite", "-voice", line.voice, *settings, *say, "-o", str(out)])
        return _read(out.read_bytes())


def festival(line: Line) -> Sound:
    """Festival; says text in the voice's language. Words in `[s aa1 b iy]` become entries of the lexicon first."""
    words = re.findall(r"\[([^\]]*)\]", line.say)
    text = line.say
    scheme = [f"(voice_{line.voice})", f"(Parameter.set 'Duration_Stretch {1 / line.speed:.3f})"]
    for number, phones in enumerate(words):
        name = f"zq{'abcdefgh'[number]}"
        text = text.replace(f"[{phones}]", name)
        scheme.append(f'(lex.add.entry \'("{name}" nil {_syllables(phones)}))')
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "said.wav"
        quoted = text.replace("\\", "").replace('"', "")
        scheme += [f'(set! said (utt.synth (Utterance Text "{quoted}")))', f'(utt.save.wave said "{out}" \'riff)']
        script = Path(folder) / "say.scm"
        script.write_text("\n".join(scheme), encoding="iso-8859-15", errors="replace")
        _run(["festival", "-b", str(script)])
        if not out.exists():
            raise CannotSayError(f"festival's voice {line.voice} cannot say {line.say!r}")
        return _read(out.read_bytes())


def _syllables(phones: str) -> str:
    """Each vowel ends a syllable, `1` marks the stressed one."""
    made: list[str] = []
    waiting: list[str] = []
    for phone in phones.split():
        waiting.append(phone.rstrip("1"))
        if phone.rstrip("1")[0] in "aeiou":
            made.append(f"(({' '.join(waiting)}) {int(phone.endswith('1'))})")
            waiting = []
    if waiting and made:
        made[-1] = made[-1].replace(")", f" {' '.join(waiting)})", 1)
    elif waiting:
        made.append(f"(({' '.join(waiting)}) 1)")
    return f"({' '.join(made)})"


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_TIMEOUT_S)  # noqa: S603 no shell
    except FileNotFoundError as error:
        raise SettingsError(f"{command[0]} is not installed; apt-get install {command[0]}") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise CannotSayError(f"{' '.join(command)} failed: {error}") from error
    return done.stdout


def _read(wav: bytes) -> Sound:
    try:
        samples, rate_hz = soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise CannotSayError(f"a synthesiser wrote no audio: {error}") from error
    return at_16k(samples.mean(1), rate_hz)
