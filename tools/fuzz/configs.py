"""Attack: arbitrary settings files and environments, in this process; no secret may appear in what is said of them."""

import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from contract.errors import SettingsError
from infra.settings.loader import CONFIG_VARIABLE, ENV_DELIMITER, ENV_PREFIX, Settings, load
from tools.fuzz.record import Budget, Result

BATCH = 100
SECRET = "geheim-7f3a"
TABLES: dict[str, type[BaseModel]] = {
    section: field.annotation
    for section, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))


NAMES = sorted((section, key) for section, table in TABLES.items() for key in table.model_fields)
SECRETS = sorted(
    (section, key)
    for section, table in TABLES.items()
    for key, field in table.model_fields.items()
    if _is_secret(field.annotation)
)


@dataclass(frozen=True)
class Given:
    """A file, if any, and the variables of the environment."""

    file: bytes | None
    environment: Mapping[str, str]


_text = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "0",
            "-1",
            "1e999",
            "nan",
            "inf",
            "-inf",
            "true",
            "null",
            "[]",
            "{}",
            '["127.0.0.0/8"]',
            '["x"]',
            "[1",
            '{"a":1}',
            "mqtt://h:1",
            "mqtts://",
            "mqtt://h:99999",
            "mqtt://[::1",
            "mqtt://u:p@h",
            "http://a/b",
            "https://a",
            "1/minute",
            "²/second",
            "9" * 5000 + "/hour",
            "0/hour",
            "1/day",
            "sqlite:///",
            "sqlite:///x",
            "ws://h",
            "ws://h/p",
            "~",
            "~nobody/x",
            "/",
            ".",
            "x" * 5000,
            "sarvis/+",
            "a",
            "wake",
            "127.0.0.1",
            "::/0",
            "1.2.3.4/33",
            "0x10",
            "1_000",
            "싸비스",
            "\ud83d",
            "\udcff",
            "💡",
            "[" * 20_000,
            '{"a":' * 5000,
            "[" + "9" * 5000 + "]",
            "9" * 5000,
            "required",
        ]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
)
_scalars = st.one_of(
    _text,
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.sampled_from([0, 1, -1, 65535, 65536, 10**30, 0.5, math.inf, -math.inf, math.nan]),
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3), max_leaves=5
)
_secrets = st.sampled_from(
    [
        SECRET,
        [SECRET],
        {SECRET: 1},
        {"x": SECRET},
        [[SECRET]],
        SECRET + "\n",
        SECRET + "💡" * 50,
        f'{{"{SECRET}": ',
        f"[{SECRET}",
        f'["{SECRET}"]',
    ]
)


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "nan" if math.isnan(value) else ("-" * (value < 0) + "inf" if math.isinf(value) else repr(value))
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


@st.composite
def files(draw: Callable[..., Any]) -> bytes:
    """Tables of which most are known, with values of which most are wrong, and sometimes no TOML at all."""
    tables: dict[str, dict[str, Any]] = {}
    for _ in range(draw(st.integers(0, 4))):
        section, key = draw(st.sampled_from(NAMES))
        tables.setdefault(section, {})[key] = draw(_values)
    if draw(st.booleans()):
        section, key = draw(st.sampled_from(SECRETS))
        tables.setdefault(section, {})[key] = draw(_secrets)
    if draw(st.integers(0, 5)) == 0:
        tables.setdefault(draw(_text), {})[draw(_text)] = draw(_values)
    lines = []
    for name, table in tables.items():
        if draw(st.integers(0, 9)) == 0:
            lines.append(f"{json.dumps(name)} = {toml(draw(_values))}")
        else:
            lines += [f"[{json.dumps(name)}]", *(f"{json.dumps(key)} = {toml(value)}" for key, value in table.items())]
    text = "\n".join(lines).encode(errors="surrogatepass")
    spoil: Callable[[bytes], bytes] = draw(st.sampled_from(SPOILS))
    return spoil(text)


SPOILS: tuple[Callable[[bytes], bytes], ...] = (
    *(bytes,) * 8,
    lambda text: text[: len(text) // 2],
    lambda text: text + b"\n\xff",
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.decode(errors="replace").encode("utf-16"),
    lambda text: text.replace(b'"', b""),
    lambda text: text.replace(b"=", b""),
    lambda text: text + b"\n" + text,
    lambda text: text + b"\n[edge]\npatience = " + b"9" * 5000,
    lambda text: text + b"\n[edge]\nhttp_allow = " + b"[" * 3000,
    lambda text: text + b"\n[edge]\nhttp_allow = " + b"{a=" * 3000,
    lambda text: text + b"\n" + b"a." * 3000 + b"a = 1",
    lambda text: text + b"\n[mqtt]\nkeepalive_s = 2021-02-30",
    lambda text: text + f"\n[mqtt]\npassword = {SECRET}".encode(),
    lambda text: text + f'\n[mqtt]\npassword = "{SECRET}'.encode(),
    lambda text: text + f'\n["{SECRET[:3]}"]\nx = 1\n'.encode(),
    lambda _text: b"\0",
)


@st.composite
def environments(draw: Callable[..., Any]) -> dict[str, str]:
    """Variables of which most are known."""
    variables: dict[str, str] = {}
    for _ in range(draw(st.integers(0, 3))):
        section, key = draw(st.sampled_from(NAMES))
        value = draw(_text | _values.map(_as_text))
        variables[f"{ENV_PREFIX}{section}{ENV_DELIMITER}{key}".upper()] = value
    if draw(st.booleans()):
        section, key = draw(st.sampled_from(SECRETS))
        variables[f"{ENV_PREFIX}{section}{ENV_DELIMITER}{key}".upper()] = _as_text(draw(_secrets))
    if draw(st.integers(0, 9)) == 0:
        variables[
            draw(st.sampled_from(["SARVIS_X", "SARVIS_MQTT", "SARVIS_", "SARVIS_MQTT__URL__X", "sarvis_app__uid"]))
        ] = "1"
    if draw(st.integers(0, 9)) == 0:
        variables[CONFIG_VARIABLE] = draw(
            st.sampled_from(["/", "nowhere", "x" * 300, "x/" * 3000, "~", "\udcff", "/dev/null"])
        )
    return {name: value for name, value in variables.items() if _possible(value)}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _possible(value: str) -> bool:
    """Whether an operating system can hold it in an environment."""
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return "\0" not in value


given = st.builds(Given, files() | st.none(), environments())


def attack(budget: Budget, reader: Callable[[Path | None], Settings] = load) -> Result:
    """Read settings; the only exception is SettingsError, which names what is wrong and tells no secret."""
    result = Result("settings")
    accepted = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / "some.toml"
        for batch in budget.batches(given, BATCH):
            for one in batch:
                result.inputs += 1
                accepted += _try(one, path, reader, result)
    result.notes.append(f"{accepted} were accepted")
    return result


def _try(one: Given, path: Path, reader: Callable[[Path | None], Settings], result: Result) -> bool:
    if one.file is not None:
        path.write_bytes(one.file)
    try:
        with _environment(one.environment):
            settings = reader(path if one.file is not None else None)
    except SettingsError as error:
        _judge(str(error), one, path, result)
        return False
    except Exception as error:  # noqa: BLE001 - that is the question
        said = error.strerror if isinstance(error, OSError) else str(error)[:40]
        result.found("crash", f"{type(error).__name__}: {said}", one)
        return False
    for name in _not_finite(settings.model_dump()):
        result.found("broken", f"{name} may be infinite or no number", one)
    return True


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(ENV_PREFIX)}
    with patch.dict(os.environ, {**clean, **variables}, clear=True):
        yield


def _judge(said: str, one: Given, path: Path, result: Result) -> None:
    if SECRET in said:
        result.found("broken", "the message tells a secret", f"{said} <- {one!r}")
    # A path is told as Python has it: without the slash at its end.
    named = {str(path), str(Path(one.environment.get(CONFIG_VARIABLE, str(path)))), *one.environment}
    if not any(name in said for name in named) and not re.search(r'setting \S|field "\w', said):
        result.found("broken", "the message names neither a setting nor the file", f"{said} <- {one!r}")


def _not_finite(value: Any, name: str = "") -> list[str]:
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in _not_finite(inner, f"{name}.{key}".lstrip("."))]
    return [name] if isinstance(value, float) and not math.isfinite(value) else []
