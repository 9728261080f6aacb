"""HTTP endpoints of pushes: the key, subscribe, unsubscribe."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, Field

from bridge.api.legacy import DENIED, NOT_STORED, speak_for
from bridge.push.service import PushNotifications
from bridge.push.subscriptions import MAX_ENDPOINT, check_public_key, check_secret
from bridge.service import Bridge
from bridge.storage.records import PushSubscription
from contract.messages import Uid
from infra.web.api import Result, example, problems

router = APIRouter()

OFF = "Pushes are off on this bridge: an operator turns them on with push.enabled"
P256_POINT = "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u-Ts1XbjhazAkj7I99e8QcYP7DkM"
"""That of the example in RFC 8291."""
Base64 = Annotated[str, Field(max_length=200)]
Endpoint = Annotated[str, Field(max_length=MAX_ENDPOINT)]


class Keys(BaseModel):
    """The keys with which a push is encrypted, both in base64url."""

    p256dh: Annotated[Base64, AfterValidator(check_public_key)]
    auth: Annotated[Base64, AfterValidator(check_secret)]


class BrowserSubscription(BaseModel):
    """A PushSubscription as a browser's `toJSON()` returns it; further keys are ignored."""

    endpoint: Endpoint = Field(description="at one of the push services that the operator allows")
    keys: Keys


class SubscribeBody(BaseModel):
    """Ring also this phone if no socket accepts a wake of the user."""

    model_config = example(
        {
            "uid": "alice",
            "subscription": {
                "endpoint": "https://fcm.googleapis.com/fcm/send/c1Kr",
                "keys": {"p256dh": P256_POINT, "auth": "tBHItJI5svbpez7KI4CCXg"},
            },
        }
    )

    uid: Uid
    subscription: BrowserSubscription


class UnsubscribeBody(BaseModel):
    """Stop ringing this phone, whichever user subscribed it."""

    model_config = example({"uid": "alice", "endpoint": "https://fcm.googleapis.com/fcm/send/c1Kr"})

    uid: Uid
    endpoint: Endpoint


class PublicKey(BaseModel):
    """The `applicationServerKey` for a browser's `pushManager.subscribe`."""

    model_config = example({"public_key": P256_POINT})

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
    """Store the phone; answered after the ledger has committed."""
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
    """Delete the phone, if it is known; answered after the ledger has committed."""
    speak_for(request, body.uid)
    await _pushing(request).unsubscribe(body.uid, body.endpoint)
    return Result(success=True, message="Unsubscribed")


def _pushing(request: Request) -> PushNotifications:
    bridge: Bridge = request.app.state.bridge
    return bridge.push
