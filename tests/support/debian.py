"""What tests need beside Python, by Debian package: `python3 tests/support/debian.py` prints the packages missing here.

Nothing but the standard library is imported: .ci/run asks before anything is installed.
"""

import ctypes.util
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

PROGRAMS = {
    "aplay": "alsa-utils",
    "arecord": "alsa-utils",
    "certutil": "libnss3-tools",
    "chromium": "chromium",
    "curl": "curl",
    "espeak-ng": "espeak-ng",
    "ffmpeg": "ffmpeg",
    "flite": "flite",
    "haproxy": "haproxy",
    "mosquitto": "mosquitto",
    "mosquitto_passwd": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "mosquitto_sub": "mosquitto-clients",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "pactl": "pulseaudio-utils",
    "paplay": "pulseaudio-utils",
    "parec": "pulseaudio-utils",
    "postgres": "postgresql",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "pulseaudio": "pulseaudio",
    "setpriv": "util-linux",
    "sox": "sox",
    "systemd-analyze": "systemd",
}
VERSIONED = {"/usr/bin": ("/usr/lib/postgresql", "*/bin")}
"""Beside which folder of PATH Debian keeps programs in several versions: the folder, and the pattern below it."""

LIBRARIES = {"libportaudio2": "portaudio", "libseccomp2": "seccomp"}
"""Package and name for the linker."""
PLUG_INS = {"libasound2-plugins": "*/alsa-lib/libasound_module_pcm_pulse.so"}
"""Package and file below /usr/lib."""
ALSO_ABSENT = (
    "c++", "cc", "festival", "g++", "gcc", "git", "ip", "java", "nats-server", "node", "npm", "npx", "ps", "pw-play",
    "sudo", "systemctl", "timedatectl", "wget",
)  # fmt: skip
"""Programs that a bare machine lacks, and that no test may take for granted either."""


def folders(path: str) -> list[str]:
    """Those of PATH; beside each `bin` also `sbin`, which Debian leaves out for ordinary users, and VERSIONED."""
    given = [folder for folder in path.split(os.pathsep) if folder]
    beside = [str(Path(folder).with_name("sbin")) for folder in given if Path(folder).name == "bin"]
    beside += [str(found) for folder in given if folder in VERSIONED for found in _versions(*VERSIONED[folder])]
    return list(dict.fromkeys([*given, *beside]))


def _versions(folder: str, pattern: str) -> list[Path]:
    return sorted(Path(folder).glob(pattern), reverse=True)


def find(program: str, path: str) -> str | None:
    """The path of a program beside this Python or in the folders of `path`."""
    places = [str(Path(sys.executable).parent), *folders(path)]
    return shutil.which(program, path=os.pathsep.join(places))


def is_here(name: str, path: str) -> bool:
    """Whether a program, a library or plug-in (by its package), or the user `root` is here."""
    if name == "root":
        return os.geteuid() == 0
    if name in LIBRARIES:
        return ctypes.util.find_library(LIBRARIES[name]) is not None
    if name in PLUG_INS:
        return any(Path("/usr/lib").glob(PLUG_INS[name]))
    return find(name, path) is not None


def package_of(name: str) -> str | None:
    """The package that brings it; None if it is none of Debian's."""
    return name if name in LIBRARIES or name in PLUG_INS else PROGRAMS.get(name)


def packages(names: Iterable[str]) -> list[str]:
    """Their packages, each once, by name."""
    return sorted({package for name in names if (package := package_of(name)) is not None})


def everything() -> list[str]:
    """All that some test needs."""
    return [*PROGRAMS, *LIBRARIES, *PLUG_INS]


def is_hidden(program: str) -> bool:
    """Whether a bare machine may lack it."""
    return program in PROGRAMS or program in ALSO_ABSENT


def bare_path(path: str, into: Path) -> str:
    """PATH as on a bare machine: a folder with programs that are absent there becomes a folder of links to the others.

    What stands beside this Python stays: it is installed with it.
    """
    made: list[str] = []
    for number, folder in enumerate(path.split(os.pathsep)):
        files = list(Path(folder).iterdir()) if Path(folder).is_dir() else []
        if not any(is_hidden(file.name) for file in files) or Path(folder) == Path(sys.executable).parent:
            made.append(folder)
            continue
        links = into / str(number)
        links.mkdir(parents=True)
        for file in files:
            if not is_hidden(file.name):
                (links / file.name).symlink_to(file)
        made.append(str(links))
    return os.pathsep.join(made)


def hide_libraries(folder: Path) -> None:
    """A `sitecustomize` there: a Python with this folder on its PYTHONPATH finds none of them."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import ctypes.util\n"
        "_find = ctypes.util.find_library\n"
        f"ctypes.util.find_library = lambda name: None if name in {set(LIBRARIES.values())} else _find(name)\n"
    )


def main(arguments: list[str], path: str) -> None:
    """Print the missing packages, a line each; with `--hide FOLDER` the PATH of a bare machine, made in that folder."""
    if arguments[:1] == ["--hide"]:
        hide_libraries(Path(arguments[1]) / "site")
        print(bare_path(path, Path(arguments[1])))
    else:
        missing = packages(name for name in everything() if not is_here(name, path))
        print("".join(f"{name}\n" for name in missing), end="")


if __name__ == "__main__":
    main(sys.argv[1:], os.environ.get("PATH", os.defpath))
