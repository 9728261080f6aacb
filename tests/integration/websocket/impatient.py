"""`python -m tests.integration.websocket.impatient`: `sarvis`, but its bridge soon misses a silent peer."""

import bridge.cli
from sarvis.cli import main

bridge.cli.PING_INTERVAL_S = 0.2
bridge.cli.PING_TIMEOUT_S = 4.0

if __name__ == "__main__":
    main()
