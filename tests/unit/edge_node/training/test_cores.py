import subprocess
import sys


def test_only_the_cores_that_a_process_is_given_are_counted() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from edge_node.training.cores import cores; print(cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_no_pool_of_processes_counts_cores_in_another_way() -> None:
    from pathlib import Path  # noqa: PLC0415

    import edge_node.training as room  # noqa: PLC0415

    for path in Path(room.__file__).parent.rglob("*.py"):
        assert path.name == "cores.py" or "cpu_count" not in path.read_text(encoding="utf-8"), path
