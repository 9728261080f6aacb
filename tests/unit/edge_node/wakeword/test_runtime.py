import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_the_engine_leaves_no_trace_of_its_own(tmp_path: Path) -> None:
    """onnxruntime would keep a device id and a file of events, and upload them."""
    folders = {name: str(tmp_path / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for folder in folders.values():
        Path(folder).mkdir()
    inherited = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    code = "from edge_node.wakeword.native import NativeDetector; NativeDetector()"
    subprocess.run([sys.executable, "-B", "-c", code], cwd=ROOT, env=inherited | folders, check=True)
    assert [str(path) for path in tmp_path.rglob("*") if path.is_file()] == []


def test_onnxruntime_is_imported_in_one_place_only() -> None:
    importers = [
        str(path.relative_to(ROOT))
        for package in ("edge_node", "sarvis")
        for path in (ROOT / package).rglob("*.py")
        if "import onnxruntime" in path.read_text(encoding="utf-8")
    ]
    assert importers == ["edge_node/wakeword/runtime.py"]
