"""The HTTP side of pushes: a page asks for the key, subscribes its phone, and takes it out again."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, Field

from bridge.pushes import MAX_ENDPOINT, check_public_key, check_secret
from bridge.pushing import Pushing
from bridge.rows import PushSubscription
from bridge.service import Bridge
from bridge.shim import DENIED, NOT_STORED, speak_for
from contract.messages import Uid
from contract.web import Result, example, problems

router = APIRouter()

OFF = "Pushes are off on this bridge: an operator turns them on with push.enabled"
Base64 = Annotated[str, Field(max_length=200)]
Endpoint = Annotated[str, Field(max_length=MAX_ENDPOINT)]


class Keys(BaseModel):
    """What a push is encrypted with, both in base64url."""

    p256dh: Annotated[Base64, AfterValidator(check_public_key)]
    auth: Annotated[Base64, AfterValidator(check_secret)]


class BrowserSubscription(BaseModel):
    """A PushSubscription as `toJSON()` gives it in a browser; more keys are ignored."""

    endpoint: Endpoint = Field(description="at one of the push services that the operator lets in")
    keys: Keys


class SubscribeBody(BaseModel):
    """Ring this phone, too, when no socket takes a wake of the user."""

    model_config = example(
        {
            "uid": "alice",
            "subscription": {"endpoint": "https://push.example/...", "keys": {"p256dh": "...", "auth": "..."}},
        }
    )

    uid: Uid
    subscription: BrowserSubscription


class UnsubscribeBody(BaseModel):
    """Do not ring this phone any more, whoever subscribed it."""

    model_config = example({"uid": "alice", "endpoint": "https://push.example/..."})

    uid: Uid
    endpoint: Endpoint


class PublicKey(BaseModel):
    """What a browser's `pushManager.subscribe` wants as `applicationServerKey`."""

    public_key: str


@router.get("/api/push/key", responses=problems(DENIED | {404: OFF}))
async def push_key(request: Request) -> PublicKey:
    """The public key of this bridge."""
    key = _pushing(request).public_key
    if key is None:
        raise HTTPException(404, OFF)
    return PublicKey(public_key=key)


@router.post("/api/push/subscribe", responses=problems(DENIED | NOT_STORED | {404: OFF}))
async def subscribe(body: SubscribeBody, request: Request) -> Result:
    """Remember the phone; answered after the ledger has committed."""
    pushing = _pushing(request)
    speak_for(request, body.uid)
    if pushing.public_key is None:
        raise HTTPException(404, OFF)
    endpoint, keys = body.subscription.endpoint, body.subscription.keys
    problem = pushing.problem_with(endpoint)
    if problem is not None:
        fault = {"type": "value_error", "loc": ("body", "subscription", "endpoint"), "msg": problem}
        raise RequestValidationError([fault])
    await pushing.subscribe(PushSubscription(body.uid, endpoint, keys.p256dh, keys.auth))
    return Result(success=True, message="Subscribed")


@router.post("/api/push/unsubscribe", responses=problems(DENIED | NOT_STORED))
async def unsubscribe(body: UnsubscribeBody, request: Request) -> Result:
    """Forget the phone, also one that is not known; answered after the ledger has committed."""
    speak_for(request, body.uid)
    await _pushing(request).unsubscribe(body.uid, body.endpoint)
    return Result(success=True, message="Unsubscribed")


def _pushing(request: Request) -> Pushing:
    bridge: Bridge = request.app.state.bridge
    return bridge.pushing
