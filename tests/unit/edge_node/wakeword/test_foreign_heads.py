"""Heads of other engines, made in memory as those engines export them."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from livekit.wakeword import WakeWordModel
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from contract.errors import SettingsError
from edge_node.audio.format import FRAME_SAMPLES, Frame
from edge_node.audio.soundfiles import read_wav
from edge_node.doctor import checks
from edge_node.wakeword import batch as twin
from edge_node.wakeword.features import embedding_model_path
from edge_node.wakeword.foreign_heads import Fit
from edge_node.wakeword.native import Head, NativeDetector
from edge_node.wakeword.openwakeword import OpenWakeWordDetector
from edge_node.wakeword_cli import app
from infra.settings.edge import EdgeSettings

CLIP = Path(__file__).parents[4] / "sarvis" / "clips" / "ssabiseu.wav"
UNIT = 1.0 / 32768.0


def head(
    path: Path,
    *,
    given: tuple[int | str, ...] = (1, 16, 96),
    made: tuple[int | str, ...] = (1, 1),
    names: tuple[str, str] = ("x.1", "53"),
    last: str | None = "Sigmoid",
    kind: int = TensorProto.FLOAT,
    notes: dict[str, str] | None = None,
    gain: float = 0.02,
) -> Path:
    """A straight line on all numbers of a window, then what `last` says."""
    numbers = int(np.prod([size for size in given[1:] if isinstance(size, int)]))
    outputs = int(np.prod([size for size in made[1:] if isinstance(size, int)]))
    weights = np.random.default_rng(3).normal(0.0, gain / np.sqrt(numbers), (numbers, outputs)).astype(np.float32)
    shape = np.array([-1, *made[1:]] if len(made) > 1 else [1], np.int64)
    nodes = [
        helper.make_node("Cast", [names[0]], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["sum"]),
        helper.make_node(last or "Identity", ["sum"], ["told"]),
        helper.make_node("Reshape", ["told", "shape"], [names[1]]),
    ]
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info(names[0], kind, given)],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, made)],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(shape, "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, notes or {})
    onnx.save(model, path)
    return path


def livekit(path: Path, notes: dict[str, str] | None = None) -> Path:
    """As livekit-wakeword 0.3.0 exports them: these names, and a batch of any size."""
    return head(path, given=("batch", 16, 96), made=("batch", 1), names=("embeddings", "score"), notes=notes)


def sound() -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """Two seconds before the word, the word, and one after it, in a room that is not silent."""
    word = np.concatenate((np.zeros(32_000, np.int16), read_wav(CLIP), np.zeros(16_000, np.int16)))
    hiss = np.rint(np.random.default_rng(5).normal(0.0, 60.0, len(word)))
    return (word + hiss).clip(-32768, 32767).astype(np.int16)


def frames(samples: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> list[Frame]:
    return list(samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES))


def scores(model: Path) -> list[float | None]:
    detector = NativeDetector(model)
    return [detector.feed(frame) for frame in frames(sound())]


def test_a_head_of_livekit_wakeword_scores_as_that_package_does(tmp_path: Path) -> None:
    model = livekit(tmp_path / "hey_livekit.onnx")
    assert Head(model).fit == Fit(16, UNIT)
    theirs = WakeWordModel(models=[str(model)])
    samples, found = sound(), scores(model)
    for at in range(26, len(found) - 1):
        # It leaves the last 10 ms of its two seconds alone.
        ends = (at + 1) * FRAME_SAMPLES + 160
        expected = theirs.predict(samples[ends - 32_000 : ends])["hey_livekit"]
        assert found[at] == pytest.approx(expected, abs=1e-4)


def test_on_the_other_scale_the_same_head_would_score_otherwise(tmp_path: Path) -> None:
    own = [score for score in scores(livekit(tmp_path / "own.onnx")) if score is not None]
    other = [
        score for score in scores(livekit(tmp_path / "other.onnx", {"sarvis.scale": "int16"})) if score is not None
    ]
    assert np.abs(np.array(own) - np.array(other)).max() > 0.01


@pytest.mark.parametrize(
    ("notes", "scale"), [({"sarvis.scale": "int16"}, 1.0), ({"sarvis.scale": "unit"}, UNIT), ({}, UNIT)]
)
def test_a_head_may_say_itself_on_which_scale_it_has_learned(
    tmp_path: Path, notes: dict[str, str], scale: float
) -> None:
    assert Head(livekit(tmp_path / "mine.onnx", notes)).fit.scale == scale


def test_a_scale_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"mine\.onnx.*'loud'.*int16, unit"):
        Head(livekit(tmp_path / "mine.onnx", {"sarvis.scale": "loud"}))


@pytest.mark.parametrize(
    ("given", "made", "names"),
    [
        ((1, 16, 96), (1, 1), ("onnx::Flatten_0", "39")),  # openWakeWord 0.5, 0.6
        (("unk__332", 16, 96), ("unk__333", 1), ("input_1", "dense")),  # openWakeWord 0.4 by tf2onnx
        (("batch_size", 16, 96), ("batch_size", 1, 1), ("input", "output")),  # nanowakeword 3
        ((1, 16, 96), (1,), ("embeddings", "score")),
        ((1, "n", 96), (1, 1), ("x", "y")),
    ],
)
def test_heads_on_openwakewords_scale_are_used_as_they_are(
    tmp_path: Path, given: tuple[int | str, ...], made: tuple[int | str, ...], names: tuple[str, str]
) -> None:
    if "n" in given:
        model = head(tmp_path / "mine.onnx", given=(1, 16, 96), made=made, names=names)
        opened = onnx.load(model)
        opened.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "n"
        onnx.save(opened, model)
    else:
        model = head(tmp_path / "mine.onnx", given=given, made=made, names=names)
    assert Head(model).fit == Fit()
    found = scores(model)
    assert found[:24] == [None] * 24
    assert all(score is not None and 0.0 <= score <= 1.0 for score in found[24:])


@pytest.mark.parametrize("embeddings", [8, 22, 28, 34])
def test_a_head_with_another_window_sees_so_many_embeddings(tmp_path: Path, embeddings: int) -> None:
    model = head(tmp_path / "mine.onnx", given=(1, embeddings, 96))
    assert Head(model).fit == Fit(embeddings)
    found = scores(model)
    first = 9 + embeddings - 1
    assert found[:first] == [None] * first
    judge = Head(model)
    embedded = twin.embeddings(sound())
    for at in range(first, len(found)):
        assert found[at] == pytest.approx(judge.score(embedded[at - embeddings + 1 : at + 1]), abs=1e-6)
    np.testing.assert_array_equal(twin.scores(sound(), judge)[first:], np.array(found[first:], np.float32))


@pytest.mark.parametrize("embeddings", [8, 34])
def test_a_file_is_judged_whole_whatever_the_window(tmp_path: Path, embeddings: int) -> None:
    model = head(tmp_path / "mine.onnx", given=(1, embeddings, 96))
    result = CliRunner().invoke(app, ["score", str(CLIP), "--model", str(model)])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["score"] > 0.0
    assert f"a window of {embeddings} embeddings" in result.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"given": (1, 34, 96), "made": (1, 7)}, "7 numbers.*several words"),
        ({"made": (1, 2), "last": "Softmax"}, "2 numbers.*several words"),
        ({"kind": TensorProto.INT8}, r"tensor\(int8\).*float32"),
        ({"kind": TensorProto.FLOAT16}, r"tensor\(float16\).*float32"),
        ({"given": (2, 16, 96), "made": (2, 1)}, "one window at a time"),
        ({"given": (1, 16, 40)}, "96 numbers"),
        ({"given": (1, 96, 16)}, "96 numbers"),
        ({"given": (1, 1536)}, "in one row"),
        ({"given": (1, 100, 96)}, "1 to 64"),
        ({"given": (1, 16, 96, 1)}, "96 numbers"),
        ({"last": None, "gain": 5.0}, "sigmoid is missing"),
        ({"last": "Tanh", "gain": 5.0}, "sigmoid is missing"),
        ({"last": "Log", "gain": 5.0}, "gives nan|sigmoid"),
    ],
)
def test_a_head_that_does_not_fit_is_refused_by_what_is_wrong(
    tmp_path: Path, options: dict[str, object], says: str
) -> None:
    model = head(tmp_path / "mine.onnx", **options)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=rf"mine\.onnx: .*({says})") as refused:
        NativeDetector(model)
    assert refused.value.exit_code == 2


def test_a_head_that_remembers_is_refused(tmp_path: Path) -> None:
    opened = onnx.load(head(tmp_path / "mine.onnx"))
    opened.graph.input.append(helper.make_tensor_value_info("hidden_in", TensorProto.FLOAT, (1, 64)))
    onnx.save(opened, tmp_path / "mine.onnx")
    with pytest.raises(SettingsError, match=r"2 inputs.*keeps a state"):
        Head(tmp_path / "mine.onnx")


def test_weights_in_another_file_that_is_missing_are_told(tmp_path: Path) -> None:
    opened = onnx.load(head(tmp_path / "mine.onnx"))
    onnx.save(opened, tmp_path / "mine.onnx", save_as_external_data=True, location="mine.onnx.data", size_threshold=0)
    (tmp_path / "mine.onnx.data").unlink()
    with pytest.raises(SettingsError, match="weights are in another file"):
        Head(tmp_path / "mine.onnx")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("hey.tflite", b"\x1c\0\0\0TFL3" + bytes(20), "TensorFlow Lite.*microWakeWord.*onnx"),
        ("hey.onnx", b"\x20\0\0\0TFL3" + bytes(20), "TensorFlow Lite"),
        ("jarvis_linux.ppn", bytes(40), "Porcupine"),
        ("alexa.umdl", bytes(40), "Snowboy"),
        ("hey.pb", bytes(40), "Precise"),
        ("hey.pt", b"PK\3\4" + bytes(40), "PyTorch.*ONNX"),
        ("hey.onnx", b"PK\3\4" + bytes(40), "PyTorch.*ONNX"),
        ("hey.json", b'{"type": "micro"}', "microWakeWord"),
        ("hey.onnx", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ("hey.onnx", b"\n<!DOCTYPE html>", "web page"),
        ("hey.keras", b"PK\3\4" + bytes(40), "Keras"),
    ],
)
def test_a_model_of_another_engine_is_refused_by_its_name(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=f"(?s){name}.*{says}"):
        Head(tmp_path / name)


def test_the_other_networks_of_openwakeword_are_no_heads() -> None:
    with pytest.raises(SettingsError, match="embedding network, not a head"):
        Head(embedding_model_path())
    with pytest.raises(SettingsError, match="mel rows"):
        Head(embedding_model_path().with_name("melspectrogram.onnx"))


def test_doctor_says_to_what_a_head_was_adapted(tmp_path: Path) -> None:
    edge = EdgeSettings(model=livekit(tmp_path / "hey.onnx"), source="silence")
    found = {finding.what: finding for finding in checks(edge)}["wake-word engine"]
    assert "livekit-wakeword's scale" in found.found


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the package has no wheel there")
def test_the_package_openwakeword_is_not_given_a_head_on_another_scale(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"hey\.onnx.*livekit.*edge\.engine = native"):
        OpenWakeWordDetector(livekit(tmp_path / "hey.onnx"))
