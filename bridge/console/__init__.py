"""The operator's console: pages that the bridge renders, which work without JavaScript."""
