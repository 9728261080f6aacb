import re
import tomllib
from pathlib import Path

from infra.settings.base import Section
from infra.settings.loader import Settings, load

EXAMPLE = Path(__file__).parents[3] / "config" / "sarvis.toml"
ROW = re.compile(r"^# (?P<line>(?P<key>\w+) = [^#\n]*?)[ \t]*(#[ \t]*(?P<comment>.*))?$", re.MULTILINE)


def test_the_example_file_is_valid_as_it_stands() -> None:
    assert load(EXAMPLE).model_dump() == load().model_dump()


def test_the_example_file_shows_every_setting_with_its_default() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    shown = tomllib.loads(ROW.sub(lambda match: match["line"], text))
    optional = {match["key"] for match in ROW.finditer(text) if "no default" in (match["comment"] or "")}
    assert set(shown) == set(Settings.model_fields)
    for name in Settings.model_fields:
        table = getattr(Settings(), name)
        assert isinstance(table, Section)
        assert set(shown[name]) == set(type(table).model_fields), name
        for key, field in type(table).model_fields.items():
            if field.default is None:
                assert key in optional, f"{name}.{key} has no default"
            else:
                assert str(shown[name][key]) == str(field.default), f"{name}.{key}"
