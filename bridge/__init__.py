"""The bridge: MQTT on one side, the apps' WebSockets on the other, and the ledger of sessions between them."""
