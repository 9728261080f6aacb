#!/usr/bin/env bash
# The same openWakeWord head, on the same sound, in openWakeWord and in livekit-wakeword.
#
# One would guess: the same score; livekit-wakeword ships openWakeWord's two networks, byte for byte the same embedding, and
# its page says that it is backward compatible with openWakeWord's models.
# What happens, openwakeword 0.5.1 and livekit-wakeword 0.3.0: openWakeWord hears the phrase, livekit-wakeword next to
# nothing, for it divides the samples by 32768 before the mel network, which openWakeWord feeds with them as they are. A head
# that was trained with one of them is deaf, or worse, in the other, without an error.
# Documented: not in either package; in livekit-wakeword the division is in `WakeWordModel.predict`.
# Needs Python 3.11 and flite.
set -euo pipefail
command -v flite >/dev/null || { echo "flite is not installed"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
flite -voice slt -t "hey jarvis" -o "$folder/said.wav"
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check openwakeword==0.5.1 livekit-wakeword==0.3.0 numpy==1.26.4
"$folder/venv/bin/python" - "$folder/said.wav" <<'PYTHON'
import importlib.metadata
import sys
import wave
from pathlib import Path

import numpy as np
import openwakeword
from livekit.wakeword import WakeWordModel
from openwakeword.model import Model

for package in ("openwakeword", "livekit-wakeword"):
    print(package, importlib.metadata.version(package))
with wave.open(sys.argv[1]) as file:
    assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
    said = np.frombuffer(file.readframes(file.getnframes()), np.int16)
hiss = np.rint(np.random.default_rng(1).normal(0.0, 40.0, len(said) + 80_000))
sound = (np.concatenate((np.zeros(48_000), said, np.zeros(32_000))) + hiss).clip(-32768, 32767).astype(np.int16)
head = Path(openwakeword.__file__).parent / "resources" / "models" / "hey_jarvis_v0.1.onnx"

ours = Model(wakeword_models=[str(head)], inference_framework="onnx")
theirs = WakeWordModel(models=[head])
one = max(ours.predict(sound[at : at + 1280])["hey_jarvis_v0.1"] for at in range(0, len(sound) - 1279, 1280))
other = max(theirs.predict(sound[at - 32_000 : at])["hey_jarvis_v0.1"] for at in range(32_000, len(sound), 1280))
loud = max(
    theirs.predict(sound[at - 32_000 : at].astype(np.float32))["hey_jarvis_v0.1"] for at in range(32_000, len(sound), 1280)
)
print(f"hey_jarvis on «hey jarvis»: openWakeWord {one:.3f}, livekit-wakeword {other:.3f}, "
      f"livekit-wakeword given the samples as floats, which it does not divide, {loud:.3f}")
sys.exit(0 if one > 0.5 and other < 0.5 and loud > 0.5 else 1)
PYTHON
