"""What every process of SARVIS uses: settings, logs, files, TLS, MQTT, HTTP servers."""
