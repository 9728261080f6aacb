"""Begins, shows and changes rollouts in the ledger; the bridge carries them on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from bridge.operator.person import me
from bridge.rollout.rules import changed
from bridge.storage.opening import ledger
from bridge.storage.records import Audit
from bridge.storage.rollouts import Model, Rollout, RolloutDevice, line_of
from bridge.storage.sql.rollouts import SqlRollouts
from contract.clock import iso
from contract.errors import SarvisError, SettingsError
from infra.settings.loader import Settings

Result = TypeVar("Result")


def models(settings: Settings) -> Sequence[Model]:
    """The models that can be rolled out; raises StartError, StoreError."""
    return _run(settings, lambda rows: rows.models())


def shares_of(text: str) -> str:
    """The stages as they are kept; raises SettingsError."""
    try:
        shares = [float(one) for one in text.split(",")]
    except ValueError:
        shares = []
    if not shares or shares != sorted(set(shares)) or shares[0] <= 0 or shares[-1] != 100:  # noqa: PLR2004
        raise SettingsError(f"--stages {text!r}: write growing shares in percent up to 100, as 1,10,100")
    return ",".join(f"{share:g}" for share in shares)


def begin(settings: Settings, name: str, tag: str, stages: str, pause_h: float, failures: int) -> Rollout:
    """Begin a rollout of the model of this name; raises SarvisError for an unknown one, or while another runs."""
    if settings.rollout.bridge_url is None:
        raise SettingsError("set rollout.bridge_url, where devices fetch models, and start the bridge again")

    async def run(rows: SqlRollouts) -> Rollout:
        model = next((one for one in await rows.models() if one.name == name), None)
        if model is None:
            raise SarvisError(f"there is no model {name}; `sarvis model list` shows all, `sarvis model add` adds one")
        known = await rows.rollouts()
        if busy := [one for one in known if one.state in {"running", "paused"}]:
            raise SarvisError(f"rollout {busy[0].number} is {busy[0].state}: wait until it is done, or stop it")
        at = iso(datetime.now(UTC))
        number = max((one.number for one in known), default=0) + 1
        made = Rollout(
            number, model.sha256, tag, shares_of(stages), pause_h * 3600.0, failures, "running", 0, None, "", at
        )
        to = f"devices with the tag {tag}" if tag else "all devices"
        await rows.begin(made, _line(number, f"began: {name} to {to}, {made.stages} %, stops at {failures} failures"))
        return made

    return _run(settings, run)


def change(settings: Settings, number: int | None, what: str) -> Rollout:
    """Pause, resume or stop a rollout, None: the newest; raises SarvisError if it cannot be done now."""

    async def run(rows: SqlRollouts) -> Rollout:
        found = _named(await rows.rollouts(), number)
        after = changed(found, what)
        if after is None:
            raise SarvisError(f"rollout {found.number} is {found.state}: `{what}` changes nothing")
        if not await rows.save(found, after, (), [_line(found.number, f"{what}: now {after.state}")]):
            raise SarvisError(f"rollout {found.number} has changed just now; see `sarvis rollout show`")
        return after

    return _run(settings, run)


def look(settings: Settings) -> tuple[Sequence[Rollout], Mapping[str, str]]:
    """All rollouts, the oldest first, and the names of models by their SHA-256."""

    async def run(rows: SqlRollouts) -> tuple[Sequence[Rollout], Mapping[str, str]]:
        return await rows.rollouts(), {one.sha256: one.name for one in await rows.models()}

    return _run(settings, run)


def show(settings: Settings, number: int | None) -> tuple[Rollout, str, Sequence[RolloutDevice]]:
    """A rollout, None: the newest, the name of its model, and its devices."""

    async def run(rows: SqlRollouts) -> tuple[Rollout, str, Sequence[RolloutDevice]]:
        found = _named(await rows.rollouts(), number)
        names = {one.sha256: one.name for one in await rows.models()}
        return found, names.get(found.model, found.model), list((await rows.devices_of(found.number)).values())

    return _run(settings, run)


def _named(known: Sequence[Rollout], number: int | None) -> Rollout:
    for one in reversed(known):
        if number in {None, one.number}:
            return one
    raise SarvisError("there is no rollout" if number is None else f"there is no rollout {number}")


def _line(number: int, text: str) -> Audit:
    return line_of(number, text, iso(datetime.now(UTC)), me())


def _run(settings: Settings, do: Callable[[SqlRollouts], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        async with ledger(settings.store, None) as store:
            return await do(SqlRollouts(store))

    return asyncio.run(run())
