"""Says which version of SARVIS this is."""


def say_version() -> None:
    """Print the installed version."""
    from importlib.metadata import version  # noqa: PLC0415 - it takes longer to load than to answer

    print(version("sarvis"))
