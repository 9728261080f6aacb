"""What tests share: a clock that is told the time, free ports, the project's processes, real brokers."""
