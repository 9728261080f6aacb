"""What is known of single scripts: the reasons why they do not count, and where our broker deviates."""

_HELPER = "no test, a part of others"

NOT_APPLICABLE = {
    "01-connect-uname-password-success-no-tls.py": "for a Mosquitto that was built without TLS",
    "02-subpub-qos2-receive-maximum-helper.py": _HELPER,
    "06-bridge-no-local.py": "MQTT 3.1 with the bit by which bridges of Mosquitto's know each other",
    "08-ssl-bridge-helper.py": _HELPER,
    "09-pwfile-parse-invalid.py": "how Mosquitto reads a file of passwords",
}
"""By script, why it is not even tried."""

DEVIATIONS = {
    "02-subpub-qos2.py": "hands a QoS 2 message on before PUBREC, as MQTT 3.1.1 allows (4.3.3, method B)",
    "02-subscribe-dollar-v5.py": "refuses $share/ with 0x80: MQTT 3.1.1 has no shared subscriptions, and a filter that "
    "hears nothing would hide it",
    "07-will-takeover.py": "publishes the last will when a persistent session is taken over: the older connection "
    "ended without DISCONNECT (MQTT-3.1.2-8)",
}
"""By script, why ours does otherwise; one that passes nevertheless is an error of this list."""
