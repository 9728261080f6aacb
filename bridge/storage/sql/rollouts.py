"""Models and rollouts in the ledger."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields

from sqlalchemy import or_, select

from bridge.storage.records import Audit
from bridge.storage.rollouts import Candidate, Model, Rollout, RolloutDevice
from bridge.storage.sql.schema import AUDIT, DEVICES, MODELS, ROLLOUT_DEVICES, ROLLOUTS
from bridge.storage.sql.store import SqlStore

_MODEL = [MODELS.c[field.name] for field in fields(Model)]


class SqlRollouts:
    """See RolloutStore."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def models(self) -> Sequence[Model]:
        """See RolloutStore."""
        query = select(*_MODEL).order_by(MODELS.c.added_at, MODELS.c.name)
        return [Model(**row) for row in await self._store.mappings(query, {})]

    async def blob(self, sha256: str) -> bytes | None:
        """See RolloutStore."""
        where = or_(MODELS.c.sha256 == sha256, MODELS.c.golden_sha256 == sha256)
        for row in await self._store.mappings(select(MODELS).where(where).limit(1), {}):
            return bytes(row["data"] if row["sha256"] == sha256 else row["golden"])
        return None

    async def add_model(self, model: Model, data: bytes, golden: bytes) -> None:
        """See RolloutStore."""
        await self._store.apply([(MODELS.insert(), [{**asdict(model), "data": data, "golden": golden}])])

    async def rollouts(self) -> Sequence[Rollout]:
        """See RolloutStore."""
        return [Rollout(**row) for row in await self._store.mappings(select(ROLLOUTS).order_by(ROLLOUTS.c.number), {})]

    async def devices_of(self, number: int) -> Mapping[str, RolloutDevice]:
        """See RolloutStore."""
        query = select(ROLLOUT_DEVICES).where(ROLLOUT_DEVICES.c.rollout == number).order_by(ROLLOUT_DEVICES.c.device_id)
        return {row["device_id"]: RolloutDevice(**row) for row in await self._store.mappings(query, {})}

    async def candidates(self) -> Sequence[Candidate]:
        """See RolloutStore."""
        query = (
            select(DEVICES.c.device_id, DEVICES.c.tags)
            .where(DEVICES.c.state != "removed", DEVICES.c.logout_url.is_(None), DEVICES.c.install_id.is_not(None))
            .order_by(DEVICES.c.device_id)
        )
        rows = await self._store.mappings(query, {})
        return [Candidate(row["device_id"], frozenset(row["tags"].split())) for row in rows]

    async def begin(self, rollout: Rollout, line: Audit) -> None:
        """See RolloutStore."""
        await self._store.apply([(ROLLOUTS.insert(), [asdict(rollout)]), (AUDIT.insert(), [asdict(line)])])

    async def save(
        self, before: Rollout, after: Rollout, devices: Collection[RolloutDevice], lines: Collection[Audit]
    ) -> bool:
        """See RolloutStore."""
        same = (ROLLOUTS.c.number == before.number, ROLLOUTS.c.state == before.state)
        put = self._store.product.upsert(ROLLOUT_DEVICES)
        key = ["rollout", "device_id"]
        new = {column.name: put.excluded[column.name] for column in ROLLOUT_DEVICES.columns if column.name not in key}
        rows = [
            (put.on_conflict_do_update(index_elements=key, set_=new), [asdict(row) for row in devices]),
            (AUDIT.insert(), [asdict(line) for line in lines]),
        ]
        return await self._store.apply([
            (ROLLOUTS.update().where(*same).values(asdict(after)), None), *((one, many) for one, many in rows if many)
        ])  # fmt: skip
