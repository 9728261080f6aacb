"""Checks whether push services can resolve the contact that every push carries. Decides, looks nothing up."""

from ipaddress import ip_address

RESERVED = frozenset({
    # RFC 2606, 6761, 6762, 7686, 8375, 9476 and ICANN's `internal`: no public name server has these.
    "alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test",
    # Names that routers and installers assign; no such top-level domain exists.
    "corp", "domain", "fritz", "home", "intern", "intra", "intranet", "lan", "localdomain", "localnet", "private",
})  # fmt: skip
EXAMPLES = frozenset({"example.com", "example.net", "example.org"})
MAX_NAME = 253
MAX_LABEL = 63


def doubt_about(contact: str) -> str | None:
    """Why a push service may refuse this contact; None if there is no known reason.

    Apple's answers 403 BadJwtToken to a contact whose host cannot be resolved; others accept any.
    """
    host = contact.removeprefix("mailto:").removeprefix("https://").rpartition("@")[2].lower()
    labels = host.split(".")
    if _is_address(host):
        return f"{host} is an address, not a name"
    if labels[-1] in RESERVED:
        return f"the public DNS has no names under .{labels[-1]}"
    if ".".join(labels[-2:]) in EXAMPLES:
        return f"{host} is reserved for examples and receives no mail"
    if len(host) > MAX_NAME or any(_is_no_label(label) for label in labels) or labels[-1].isdigit():
        return f"{host} is not a name that can be resolved"
    return None if contact.isascii() else "not every service accepts letters beyond ASCII"


def _is_no_label(label: str) -> bool:
    return not label or len(label) > MAX_LABEL or label.startswith("-") or label.endswith("-")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
