"""`sarvis wakeword`: scores recordings with a model, trains models and measures them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from contract.errors import SarvisError, SettingsError
from edge_node.audio.format import FRAME_S
from edge_node.audio.sources import SourceOptions, open_source
from edge_node.enrollment.cli import enroll, review
from edge_node.wakeword.gate import Gate
from edge_node.wakeword.grounds import grounds_path
from edge_node.wakeword.native import Head, NativeDetector, shipped_model_path
from edge_node.wakeword.voice_watch import Learned
from infra.places import at_home
from infra.terminal import output_is_all

app = typer.Typer(no_args_is_help=True, help="Teach a node your voice; score recordings; train a model and measure it.")

app.command()(enroll)
app.command()(review)

Strictness: TypeAlias = Literal["lenient", "normal", "strict"]

_CACHE = Path("~/.cache/sarvis/wakeword")
_Model = Annotated[Path | None, typer.Option("--model", help="a head in ONNX; default: the one that comes with SARVIS")]
_Cache = Annotated[Path, typer.Option("--cache", help="folder for sources, clips and features: some 10 GB")]
_Word = Annotated[str, typer.Option("--word", help="in Hangul, or a TOML file like words/ssabiseu.toml")]


@app.command()
def score(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="WAV, FLAC, Ogg or MP3, any rate, any channels")
    ],
    model: _Model = None,
    strictness: Annotated[Strictness, typer.Option(help="the threshold to use, from the model's advice")] = "normal",
    voice: Annotated[Path | None, typer.Option(metavar="FILE", help="a voice that `enroll` learned")] = None,
    second_stage: Annotated[bool, typer.Option(help="use the model's second stage, if it has one")] = True,
) -> None:
    """Print one JSON line per file: highest score, whether it fires, and at which second of the file.

    What cannot be heard is told on standard error; the others are judged, and the command ends with 1 (2 if there is
    none).
    """
    output_is_all()
    with _errors():
        learned = Learned.load(voice, model) if voice is not None else None
        head = Head(model, second_stage=second_stage)
        if str(head.fit):
            typer.echo(f"{model}: {head.fit}", err=True)
        if head.second_missing is not None:
            typer.echo(f"{head.name} is used without its second stage: {head.second_missing}", err=True)
        wrong = [file for file in files if not _told(file, model, strictness, learned, second_stage=second_stage)]
    if wrong:
        raise typer.Exit(2 if len(wrong) == len(files) else 1)


def _told(
    file: Path, model: Path | None, strictness: Strictness, learned: Learned | None, *, second_stage: bool
) -> bool:
    """Whether the file could be heard."""
    try:
        result = score_file(file, model, strictness, learned, second_stage=second_stage)
    except SettingsError as error:
        typer.echo(f"error: {error}", err=True)
        return False
    line = {"file": str(file), "score": result.score, "fired": result.at_s is not None, "at_s": result.at_s}
    typer.echo(json.dumps(line, ensure_ascii=False))
    return True


@app.command()
def train(
    *,
    word: _Word = "싸비스",
    out: Annotated[Path, typer.Option(help="the model's file; its card is written beside it")] = Path("wakeword.onnx"),
    cache: _Cache = _CACHE,
    quick: Annotated[
        bool, typer.Option("--quick", help="a hundredth of the data, to try the steps: the model is not good")
    ] = False,
    second_stage: Annotated[
        bool, typer.Option(help="also teach a second stage, which needs the package hama where the model runs")
    ] = False,
    beside: Annotated[Path | None, typer.Option(help="also write models for comparison into this folder")] = None,
) -> None:
    """Make a model: install the sources, let voices speak, learn, fix thresholds. Goes on where it was stopped."""
    with _errors():
        from edge_node.training.course import FULL, QUICK  # noqa: PLC0415 the extra `train`
        from edge_node.training.train import train as make  # noqa: PLC0415
        from edge_node.training.vocabulary import load_word  # noqa: PLC0415

        make(load_word(word), QUICK if quick else FULL, at_home(cache, "--cache"), out, beside)
        if second_stage:
            _teach_second(word, out, out, cache, quick=quick)
        typer.echo(f"{out} is made; measure it: sarvis wakeword evaluate --model {out} --word {word}")


@app.command()
def second(
    *,
    word: _Word = "싸비스",
    model: _Model = None,
    out: Annotated[Path, typer.Option(help="the model with a second stage")] = Path("wakeword.onnx"),
    cache: _Cache = _CACHE,
    quick: Annotated[bool, typer.Option("--quick", help="hardly anything: whether it works, no good model")] = False,
) -> None:
    """Teach a model a second stage; print what each weight of it would cost. Goes on where it was stopped."""
    with _errors():
        _teach_second(word, model or shipped_model_path(), out, cache, quick=quick)
        typer.echo(f"{out} is made; measure it: sarvis wakeword evaluate --model {out} --word {word}")


def _teach_second(word: str, model: Path, out: Path, cache: Path, *, quick: bool) -> None:
    from edge_node.training.second_train import FULL_SECOND, QUICK_SECOND, teach_second  # noqa: PLC0415
    from edge_node.training.vocabulary import load_word  # noqa: PLC0415

    course = QUICK_SECOND if quick else FULL_SECOND
    for row in teach_second(load_word(word), course, model, at_home(cache, "--cache"), out):
        typer.echo(str(row))


@app.command()
def evaluate(
    *,
    word: _Word = "싸비스",
    model: _Model = None,
    cache: _Cache = _CACHE,
    page: Annotated[Path | None, typer.Option(help="put the tables into this page, between its marks")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="write all figures into this file")] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="compare with this model, too; may be repeated")
    ] = None,
    brief: Annotated[
        bool, typer.Option("--brief", help="fewer clips and conditions: a fifth of the time, wider intervals")
    ] = False,
    ten_db: Annotated[
        bool, typer.Option("--ten-db", help="all clips, but noise at 10 dB only: half of the time")
    ] = False,
    enrolled: Annotated[
        bool, typer.Option("--enrolled", help="measure instead the benefit of an enrolled voice")
    ] = False,
    other_grounds: Annotated[
        list[Path] | None,
        typer.Option("--grounds", metavar="FILE", help="with --enrolled: other grounds to compare with"),
    ] = None,
) -> None:
    """Measure a model on held-out voices and hours of recordings; print the tables. Goes on where it was stopped."""
    if enrolled:
        where = at_home(cache, "--cache")
        _evaluate_enrolled(word, model or shipped_model_path(), where, other_grounds or [], page, as_json)
        return
    with _errors():
        from edge_node.training import curve, report  # noqa: PLC0415 the extra `train`
        from edge_node.training.brief import CONDITIONS as BRIEF  # noqa: PLC0415
        from edge_node.training.brief import some  # noqa: PLC0415
        from edge_node.training.course import FULL  # noqa: PLC0415
        from edge_node.training.evaluate import evaluate as measure  # noqa: PLC0415
        from edge_node.training.lessons import clips_of  # noqa: PLC0415
        from edge_node.training.measure import CONDITIONS  # noqa: PLC0415
        from edge_node.training.vocabulary import load_word  # noqa: PLC0415

        where = at_home(cache, "--cache")
        clips = list(clips_of(load_word(word), FULL, where, splits=("test",), only=some if brief else list))
        conditions = BRIEF if brief or ten_db else CONDITIONS
        figures = measure(model or shipped_model_path(), clips, where, beside or (), conditions)
        picture = (page or Path("wakeword.md")).with_name("wakeword-curve.png")
        curve.draw(figures.curve, figures.thresholds, picture, figures.curve_alone)
        text = report.markdown(figures, picture.name)
        if page:
            report.insert(page, text)
        if as_json:
            as_json.write_text(report.as_json(figures), encoding="utf-8")
        typer.echo(text)


def _evaluate_enrolled(
    word: str, model: Path, cache: Path, grounds: list[Path], page: Path | None, as_json: Path | None
) -> None:
    with _errors():
        from edge_node.training import enrolled_report, report  # noqa: PLC0415 the extra `train`
        from edge_node.training.course import FULL  # noqa: PLC0415
        from edge_node.training.enrolled import measure_enrolled  # noqa: PLC0415
        from edge_node.training.lessons import clips_of  # noqa: PLC0415
        from edge_node.training.vocabulary import load_word  # noqa: PLC0415

        clips = list(clips_of(load_word(word), FULL, cache, splits=("test",)))
        measured = measure_enrolled(model, [grounds_path(model), *grounds], clips, cache)
        text = enrolled_report.markdown(measured)
        if page:
            report.insert(page, text, enrolled_report.MARKS)
        if as_json:
            as_json.write_text(enrolled_report.as_json(measured), encoding="utf-8")
        typer.echo(text)


@app.command()
def grounds(
    *,
    word: _Word = "싸비스",
    model: _Model = None,
    cache: _Cache = _CACHE,
    out: Annotated[Path | None, typer.Option(help="default: beside the model, where `enroll` looks for them")] = None,
    seen: Annotated[
        Literal["both", "layers", "window"],
        typer.Option(help="the input of a verifier: the head's hidden layers, its window"),
    ] = "both",
) -> None:
    """Make what `enroll` fits a verifier with, from voices that teach; an hour of two cores the first time."""
    with _errors():
        from edge_node.training.grounding import ground  # noqa: PLC0415 the extra `train`
        from edge_node.training.vocabulary import load_word  # noqa: PLC0415

        path = out or grounds_path(model)
        ground(load_word(word), model or shipped_model_path(), at_home(cache, "--cache"), seen).save(path)
        typer.echo(f"{path} is made; measure it: sarvis wakeword evaluate --enrolled")


@contextmanager
def _errors() -> Iterator[None]:
    """End with a sentence instead of a traceback."""
    try:
        yield
    except ModuleNotFoundError as error:
        typer.echo(f"error: {error.name} is not installed: pip install 'sarvis[train]'", err=True)
        raise typer.Exit(2) from error
    except SarvisError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


@dataclass(frozen=True, slots=True)
class Score:
    """What a file got.

    Attributes:
        score: the highest score of any frame.
        at_s: seconds from the file's beginning to the first trigger; None if it does not fire.
    """

    score: float
    at_s: float | None


def score_file(
    file: Path,
    model: Path | None = None,
    strictness: Strictness = "normal",
    voice: Learned | None = None,
    *,
    second_stage: bool = True,
) -> Score:
    """Score a file as `--source wav:FILE` plays it, but as fast as it is read; SettingsError if it is not audio."""
    detector = NativeDetector(model, second_stage=voice is None and second_stage)
    gate = Gate(detector.advice.gate(strictness, voice.threshold if voice is not None else None))
    detector.adopt(voice.look if voice is not None else None, alone=voice is not None)
    highest, fired_at_s = 0.0, None
    options = SourceOptions(lead_in_s=detector.head.lead_in_s, pace=False)
    with open_source(f"wav:{file}", options) as frames:
        for number, frame in enumerate(frames, start=1):
            current = detector.feed(frame)
            highest = max(highest, current or 0.0)
            trigger = gate.feed(current, number * FRAME_S)
            if trigger is not None and fired_at_s is None:
                fired_at_s = round(trigger.at_s - options.lead_in_s, 3)
    return Score(round(highest, 4), fired_at_s)
