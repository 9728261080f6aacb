"""Adds a wake-word model to the ledger: tested as a device does it, and signed."""

import asyncio
import hashlib
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from bridge.storage.opening import ledger
from bridge.storage.rollouts import KEPT_MODELS, Model
from bridge.storage.sql.rollouts import SqlRollouts
from contract.clock import iso
from contract.errors import MessageError, SarvisError, SettingsError
from contract.model_manifest import MAX_GOLDEN_BYTES, MAX_MODEL_BYTES, MODEL_NAME, Manifest
from infra import signing
from infra.readable import read_bytes
from infra.settings.loader import Settings

GOLDEN = Path(__file__).parent / "clips" / "ssabiseu.wav"


def add(settings: Settings, file: Path, name: str | None, golden: Path | None) -> Manifest:
    """Keep a model that recognises its golden sound; raises SettingsError, StartError, StoreError, SarvisError."""
    name = name or file.stem
    if not re.fullmatch(MODEL_NAME, name):
        raise SettingsError(f"--name {name!r} must be 1 to 64 letters, digits, dots, _ and -, the first no sign")
    data, sound = _bytes(file, MAX_MODEL_BYTES), _bytes(golden or GOLDEN, MAX_GOLDEN_BYTES)
    manifest = _tested(name, data, sound, file)
    text = manifest.text()
    row = Model(
        manifest.sha256, name, text, signing.sign(settings.rollout.key_file, text), manifest.golden,
        iso(datetime.now(UTC)),
    )  # fmt: skip

    async def run() -> None:
        async with ledger(settings.store, None) as store:
            rows = SqlRollouts(store)
            known = await rows.models()
            if any(name == one.name or row.sha256 == one.sha256 for one in known):
                raise SarvisError(f"a model {name}, or one of this content, is there: see `sarvis model list`")
            if len(known) >= KEPT_MODELS:
                raise SarvisError(f"the ledger keeps {KEPT_MODELS} models, and they are there")
            await rows.add_model(row, data, sound)

    asyncio.run(run())
    return manifest


def _tested(name: str, data: bytes, sound: bytes, file: Path) -> Manifest:
    from edge_node.models.selftest import check, score_of  # noqa: PLC0415 - of the extra `edge`
    from edge_node.wakeword.native import NativeDetector  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        model, golden = Path(folder) / f"{name}.onnx", Path(folder) / "golden.wav"
        model.write_bytes(data)
        golden.write_bytes(sound)
        try:
            detector = NativeDetector(model)
        except SettingsError as error:
            raise SettingsError(str(error).replace(str(model), str(file))) from None
        threshold = detector.advice.gate().threshold
        score, _ = score_of(detector, golden)
        manifest = Manifest(
            name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data),
            golden=hashlib.sha256(sound).hexdigest(), golden_size=len(sound),
            score=round(min(score, 1.0), 4), threshold=threshold,
        )  # fmt: skip
        try:
            check(model, golden, manifest, second_stage=True)
        except MessageError as error:
            raise SettingsError(f"{file}: {error}; name a recording of its word with --golden") from None
        return manifest


def _bytes(path: Path, most: int) -> bytes:
    try:
        data = read_bytes(path, most + 1)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    if not 0 < len(data) <= most:
        raise SettingsError(f"{path} has {len(data) or 'no'} bytes; at most {most:,} are possible")
    return data
