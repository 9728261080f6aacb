"""The metrics of an MQTT session; of each process that has one."""

from prometheus_client import Counter, Gauge

from contract.topics import TABLE
from infra.telemetry import REGISTRY

INVALID_MESSAGES = Counter(
    "sarvis_mqtt_invalid_messages_total", "MQTT messages that were no valid message", ["kind"], registry=REGISTRY
)
for _kind in {row.kind for row in TABLE} | {"unknown"}:
    INVALID_MESSAGES.labels(_kind)  # a rate sees the first one only if there was a zero before
MQTT_CONNECTED = Gauge(
    "sarvis_mqtt_connected", "1 while the broker is reached and all subscriptions stand", registry=REGISTRY
)
MQTT_RECONNECTS = Counter(
    "sarvis_mqtt_reconnects_total", "Connections to the broker that had to be made again", registry=REGISTRY
)
MQTT_UNSENT = Counter("sarvis_mqtt_unsent_total", "Messages not sent because no broker was reached", registry=REGISTRY)
