"""The HTTP endpoint that forgets a user."""

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel

from bridge.api.legacy import DENIED, NOT_STORED
from bridge.auth.middleware import actor_of
from bridge.service import Bridge
from bridge.stories.file import StoriesError
from contract.messages import new_id
from infra.web.api import UserRequest, example, problems

router = APIRouter()


class ForgetResult(BaseModel):
    """How much was kept of the user, and what still names the user.

    Attributes:
        name: stands in the place of the user in the audit, in ended sessions and in stories of other users.
        stories, missed, subscriptions: were deleted.
        audit, sessions: bear that name from now on.
        waiting: devices that have not confirmed a log-out yet, which names the user until then.
        claims: devices that are to log in the user.
    """

    model_config = example(
        {
            "success": True,
            "name": "forgotten-0123456789ab",
            "stories": 12,
            "audit": 4,
            "sessions": 2,
            "missed": 1,
            "subscriptions": 1,
            "waiting": [],
            "claims": [],
        }
    )

    success: bool
    name: str
    stories: int
    audit: int
    sessions: int
    missed: int
    subscriptions: int
    waiting: list[str]
    claims: list[str]


@router.post("/api/users/forget", responses=problems(DENIED | NOT_STORED))
async def forget_user(body: UserRequest, request: Request) -> ForgetResult:
    """Log the user out, and delete or make anonymous what is kept of the user; for `sarvis forget`."""
    bridge: Bridge = request.app.state.bridge
    uid, name = body.uid, f"forgotten-{new_id()[:12]}"
    await bridge.sessions.logout(uid, "operator", actor_of(request))
    try:
        async with bridge.keeping:
            bridge.relay.forget(uid, name)
            stories = await bridge.chronicle.forget(uid, name)
            ledger = await bridge.store.forget(uid, name)
    except StoriesError as error:
        raise HTTPException(503, f"{error}; the user is logged out, and not forgotten") from None
    return ForgetResult(
        success=True,
        name=name,
        stories=stories,
        audit=ledger.audit,
        sessions=ledger.sessions,
        missed=ledger.missed,
        subscriptions=ledger.subscriptions,
        waiting=bridge.sessions.waiting_at(uid),
        claims=await bridge.sessions.claims(uid),
    )
