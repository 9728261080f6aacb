"""The recogniser that is built from the package's weights, beside the package's own library."""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hama import _engine

from edge_node.wakeword import hama_weights
from edge_node.wakeword.hama_weights import RecogniserMissingError, read_weights, unpack, weights_path
from edge_node.wakeword.recogniser import BLOCKS, STATE_SIZE, Recogniser, states_of

DATA = Path(__file__).parents[3] / "data"
WORD = Path(__file__).parents[4] / "sarvis" / "clips" / "ssabiseu.wav"
CLIPS = (DATA / "jarvis_near_miss.wav", WORD, DATA / "ssabiseu_em_alex.wav")


def heard(number: int, length: int) -> npt.NDArray[np.int16]:
    """A clip in hiss."""
    speech, _ = soundfile.read(CLIPS[number], dtype="int16")
    samples = np.random.default_rng(number).normal(0.0, 60.0, length)
    samples[2000 : 2000 + len(speech)] += speech[: length - 2000]
    return np.clip(samples, -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("length", [25600, 32000])
def test_all_blocks_give_the_posteriors_of_the_packages_own_library(length: int) -> None:
    library = _engine.AsrSession(weights_path().read_bytes())
    recogniser = Recogniser(length, BLOCKS)
    for number in range(3):
        samples = heard(number, length)
        expected = library.run(["log_probs"], {"waveform": samples.astype(np.float32) / 32768.0})[0][0]
        found = recogniser.states(samples)
        assert found.shape == expected.shape == (states_of(length), 191)
        assert np.ptp(expected) > 5.0
        np.testing.assert_allclose(found, expected, atol=2e-3, rtol=0.0)
        np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))


def test_fewer_blocks_give_states_and_the_same_sound_the_same_bits() -> None:
    recogniser = Recogniser(25600)
    found = recogniser.states(heard(0, 25600))
    assert found.shape == (81, STATE_SIZE)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(Recogniser(25600).states(heard(0, 25600)), found)
    assert not np.allclose(recogniser.states(heard(1, 25600)), found, atol=0.1)


def test_silence_has_finite_states() -> None:
    assert np.isfinite(Recogniser(25600).states(np.zeros(25600, np.int16))).all()


def test_a_piece_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="pieces of 25600 samples"):
        Recogniser(25600).states(np.zeros(25599, np.int16))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hama_weights, "find_spec", lambda _: None)
    with pytest.raises(RecogniserMissingError, match=r"pip install 'hama==1\.7\.0'"):
        Recogniser(25600)


def test_another_file_than_the_known_one_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "asr_waveform.hama"
    with pytest.raises(RecogniserMissingError, match=r"asr_waveform\.hama: cannot be read: No such file"):
        read_weights(other)
    content = bytearray(weights_path().read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    with pytest.raises(RecogniserMissingError, match="is not the file that SARVIS knows"):
        read_weights(other)


def test_tensors_are_read_by_name_type_and_shape() -> None:
    table = struct.pack("<BBI", 1, 2, 2)
    table += struct.pack("<H", 4) + b"even" + struct.pack("<BB2I2Q", 1, 2, 2, 3, 16, 12)
    table += struct.pack("<H", 3) + b"one" + struct.pack("<BB2Q", 0, 0, 0, 4)
    head = b"HAMAPK" + table
    body = struct.pack("<f", 1.5).ljust(16, b"\0") + np.arange(6, dtype="<f2").tobytes()
    found = unpack(head + b"\0" * (-len(head) % 16) + body)
    np.testing.assert_array_equal(found["even"], [[0, 1, 2], [3, 4, 5]])
    assert found["one"] == 1.5
    assert {values.dtype.name for values in found.values()} == {"float32"}


@pytest.mark.parametrize("content", [b"", b"GGUF", b"HAMAPK", b"HAMAPK\1\1\5\0\0\0", b"HAMAPK\1\1\1\0\0\0\1\0x\xff\0"])
def test_a_damaged_file_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"does not begin|damaged"):
        unpack(content)
