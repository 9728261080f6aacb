#!/usr/bin/env bash
# soxr (the Python package) on digital silence, and how late its qualities are.
#
# One would guess: zeros in, zeros out; and the lower the quality, the shorter the delay.
# What happens, soxr 1.1.0: with dtype int16 zeros come out as -1, 0 and 1, a quarter of them not zero, in every quality,
# even where both rates are the same: the library adds dither. With float32 zeros stay zeros. And in a stream from 48 to
# 16 kHz MQ is as late as HQ; only LQ and QQ are earlier.
# Documented: that the output of integers is dithered is not in the package's documentation (libsoxr's header names a flag
# SOXR_NO_DITHER, which the package does not offer); of delays it says `ResampleStream.delay()`, and no figures.
# Who looks for a muted microphone by zeros behind such a resampler never finds one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check soxr==1.1.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import soxr

print("soxr", soxr.__version__)


def stream(rate, quality, dtype, seconds=4.0):
    """What comes out for zeros in blocks of 20 ms, and the longest time by which it lags behind."""
    resampler = soxr.ResampleStream(rate, 16_000, 1, dtype=dtype, quality=quality)
    made, longest, given, came = [], 0.0, 0, 0
    for _ in range(round(seconds / 0.02)):
        block = np.zeros(rate // 50, dtype)
        given += len(block)
        longest = max(longest, given / rate - came / 16_000 - 0.02)
        made.append(resampler.resample_chunk(block))
        came += len(made[-1])
    return np.concatenate(made), round(1000 * longest)


dithered, late = True, {}
for rate in (16_000, 44_100, 48_000):
    for quality in ("HQ", "MQ", "LQ", "QQ"):
        integers, delay = stream(rate, quality, "int16")
        floats, _ = stream(rate, quality, "float32")
        late[rate, quality] = delay
        share = float((integers != 0).mean())
        dithered &= share > 0.1 and set(np.unique(integers).tolist()) == {-1, 0, 1} and not floats.any()
        print(f"{rate} to 16000 {quality}: int16 {np.unique(integers)}, {share:.0%} not zero; "
              f"float32 {np.unique(floats)}; at most {delay} ms late")
as_late = late[48_000, "MQ"] >= late[48_000, "HQ"] > late[48_000, "LQ"]
print("zeros are dithered:", dithered, "| MQ is as late as HQ:", as_late)
sys.exit(0 if dithered and as_late else 1)
PYTHON
