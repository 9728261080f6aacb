from pathlib import Path

from contract.topics import TABLE, Topic

CONTRACT = Path(__file__).parents[3] / "docs" / "contract.md"


def row(topic: Topic) -> str:
    owner = "{device_id}" if topic.family == "devices" else "{bridge}"
    direction = topic.direction.replace("_", " ")
    retained = "yes" if topic.retained else "no"
    keys = ", ".join(topic.model.model_fields)
    return f"| {topic.family}/{owner}/{topic.kind} | {direction} | {topic.qos} | {retained} | {keys} |"


def test_the_documented_topics_are_those_of_the_table() -> None:
    lines = CONTRACT.read_text(encoding="utf-8").splitlines()
    documented = [line for line in lines if line.startswith(("| devices/", "| bridges/"))]
    assert documented == [row(topic) for topic in TABLE]
