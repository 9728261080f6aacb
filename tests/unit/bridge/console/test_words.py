"""The console's words: the templates use those that exist, and both languages say the same."""

import re
from pathlib import Path
from string import Formatter
from typing import get_args

import pytest

from bridge.console import words
from bridge.console.render import TEMPLATES
from bridge.console.words import TOLD, WORDS, Language, ago_in, say
from bridge.rollout.rules import CHANGES
from bridge.storage.rollouts import DeviceProgress, RolloutState

CONSOLE = Path(words.__file__).parent
USED = re.compile(r"""\bt\("(\w+)\"""")
PASSED = re.compile(r'"(\w+)", (?:form=|detail=)|why = "(\w+)"|FORBIDDEN, "(\w+)"')


def values(text: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("key", WORDS)
def test_both_languages_say_the_same(key: str) -> None:
    english, korean = WORDS[key]
    assert values(english) == values(korean)
    assert english.strip()
    assert korean.strip()


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.html")), ids=lambda path: path.name)
def test_a_template_uses_words_that_exist_and_has_none_of_its_own(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    assert set(USED.findall(text)) <= set(WORDS)
    shown = re.sub(r"\{[{%#].*?[#%}]\}|<[^>]*>", " ", text, flags=re.DOTALL)
    assert set(re.findall(r"[A-Za-z]{3,}|[가-힣]+", shown)) <= {"doctype", "html", "sarvis", "trace"}, template


def test_each_state_of_a_rollout_has_words() -> None:
    states = {f"rollout_{state}" for state in get_args(RolloutState)}
    progress = {f"progress_{state}" for state in get_args(DeviceProgress)}
    actions = {f"rollout_{kind}_{what}" for kind in ("why", "do") for what in CHANGES}
    assert states | progress | actions <= set(WORDS)


def test_what_actions_and_refusals_say_has_words() -> None:
    assert set(TOLD) <= set(WORDS)
    for name in ("guard.py", "actions.py"):
        found = PASSED.findall((CONSOLE / name).read_text(encoding="utf-8"))
        assert found
        assert {key for keys in found for key in keys if key} <= set(WORDS)


def test_a_missing_value_is_an_error() -> None:
    assert say("ko", "key_in_use", who="a") == "키 a"
    with pytest.raises(KeyError):
        say("en", "key_in_use")
    with pytest.raises(KeyError):
        say("en", "no such words")


@pytest.mark.parametrize(
    ("seconds", "english", "korean"),
    [
        (-3, "now", "지금"),
        (4.9, "now", "지금"),
        (5, "5 s ago", "5초 전"),
        (59.9, "59 s ago", "59초 전"),
        (60, "1 min ago", "1분 전"),
        (3600, "1 h ago", "1시간 전"),
        (47.9 * 3600, "47 h ago", "47시간 전"),
        (48 * 3600, "2 days ago", "2일 전"),
    ],
)
def test_how_long_ago_something_was(seconds: float, english: str, korean: str) -> None:
    languages: tuple[Language, Language] = ("en", "ko")
    assert [ago_in(language, seconds) for language in languages] == [english, korean]
