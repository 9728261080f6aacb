#!/usr/bin/env bash
# The same openWakeWord head, on the same sound, in openWakeWord and in livekit-wakeword.
#
# One would guess: the same score. livekit-wakeword ships openWakeWord's two networks, its heads have the same shape, and its
# page says that it is backward compatible with openWakeWord's models.
# What happens, openwakeword 0.5.1 and livekit-wakeword 0.3.0: livekit-wakeword divides int16 samples by 32768 before the mel
# network, openWakeWord feeds it with them as they are, so all embeddings differ. What a head makes of that depends on the
# head: hey_jarvis scores 0.99 either way, hey_rhasspy 0.4 to 0.5 in one and less than 0.1 in the other. There is no error.
# Given the samples as floats livekit-wakeword does not divide, and scores as openWakeWord does.
# Documented: in neither package; the division is in livekit-wakeword's `WakeWordModel.predict`.
# Needs Python 3.11 and flite.
set -euo pipefail
command -v flite >/dev/null || { echo "flite is not installed"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
flite -voice rms -t "hey raspy" -o "$folder/said.wav"
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check openwakeword==0.5.1 livekit-wakeword==0.3.0 numpy==1.26.4
"$folder/venv/bin/python" - "$folder/said.wav" <<'PYTHON'
import importlib.metadata
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime
import openwakeword
from livekit.wakeword import WakeWordModel
from openwakeword.model import Model

for package in ("openwakeword", "livekit-wakeword", "onnxruntime"):
    print(package, importlib.metadata.version(package))
with wave.open(sys.argv[1]) as file:
    assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
    said = np.frombuffer(file.readframes(file.getnframes()), np.int16)
hiss = np.rint(np.random.default_rng(1).normal(0.0, 40.0, len(said) + 80_000))
sound = (np.concatenate((np.zeros(48_000), said, np.zeros(32_000))) + hiss).clip(-32768, 32767).astype(np.int16)
head = Path(openwakeword.__file__).parent / "resources" / "models" / "hey_rhasspy_v0.1.onnx"
name = head.stem

streaming = Model(wakeword_models=[str(head)], inference_framework="onnx")
one_thread = onnxruntime.SessionOptions()
one_thread.intra_op_num_threads = 1
whole = WakeWordModel(models=[head], sess_options=one_thread)
ends = range(36_000, len(sound), 1280)
one = max(streaming.predict(sound[at : at + 1280])[name] for at in range(0, len(sound) - 1279, 1280))
other = max(whole.predict(sound[at - 32_000 : at])[name] for at in ends)
floats = max(whole.predict(sound[at - 32_000 : at].astype(np.float32))[name] for at in ends)
print(f"{name}: openWakeWord {one:.3f}, livekit-wakeword {other:.3f}, livekit-wakeword given floats {floats:.3f}")
sys.exit(0 if one > 0.3 and other < 0.15 and floats > 0.3 else 1)
PYTHON
