#!/usr/bin/env bash
# OpenTelemetry's Python SDK: TraceIdRatioBased takes none, or all, of traces whose ids are UUIDs.
#
# One would guess: a random UUID (version 4) has 16 bytes as a trace id has, so it can be one, as for requests that have an id
# already; and TraceIdRatioBased(0.25) takes a quarter of such traces.
# What happens: the sampler compares the last 64 bits of the id. In a UUID these begin with its variant, two fixed bits: the
# number is always in the third quarter. A ratio of 0.5 or less takes no trace at all, one of 0.75 or more takes each. With
# the SDK's own ids the ratio holds.
# Seen in: opentelemetry-sdk 1.45.2, Python 3.11. W3C Trace Context, level 2, calls only the last 56 bits random.
# What to do: take the share yourself of the last 56 bits, or give such traces ids of the SDK's IdGenerator.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check opentelemetry-sdk==1.45.2
"$folder/venv/bin/pip" list --disable-pip-version-check 2>/dev/null | grep -i -E '^opentelemetry-sdk '
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import uuid

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

COUNT = 4000
ids = {
    "uuid4": [uuid.uuid4().int for _ in range(COUNT)],
    "the SDK's own": [RandomIdGenerator().generate_trace_id() for _ in range(COUNT)],
}
taken = {}
for name, made in ids.items():
    for ratio in (0.25, 0.5, 0.8):
        sampler = TraceIdRatioBased(ratio)
        taken[name, ratio] = sum(sampler.should_sample(None, one, "x").decision.is_sampled() for one in made) / COUNT
        print(f"ids: {name}, ratio {ratio}: {taken[name, ratio]:.3f} of the traces are taken")
of_uuids = [taken["uuid4", ratio] for ratio in (0.25, 0.5, 0.8)]
if of_uuids != [0.0, 0.0, 1.0]:
    print("this has changed: a share of traces with UUIDs is taken")
    sys.exit(1)
print("as described: of traces with UUIDs none are taken, or all")
PYTHON
