"""Runs the audio thread, mute and watchdog from the event loop."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from contract.clock import Clock
from contract.errors import MessageError, SettingsError
from edge_node.audio.capture import Capture, Change
from edge_node.audio.microphone import MicrophoneOptions
from edge_node.audio.sources import AudioSource, SourceOptions
from edge_node.display.events import Alarm
from edge_node.gpio import Pins
from edge_node.listening.audio_thread import Listener
from edge_node.listening.handover import Handover
from edge_node.listening.mute import Mute, Switch
from edge_node.listening.watchdog import DEAF_S, Notify, Watchdog, notifier, watchdog_s
from edge_node.metrics import Numbers
from edge_node.recordings.folder import Limits, TriggerFolder
from edge_node.recordings.recorder import TriggerRecorder
from edge_node.recordings.writer import Writer
from edge_node.wakeword.gate import Gate, GateSettings, Trigger
from edge_node.wakeword.native import NativeDetector
from edge_node.wakeword.near import NearMisses
from edge_node.wakeword.openwakeword import OpenWakeWordDetector
from edge_node.wakeword.voice_watch import Learned, VoiceWatch, voice_path
from infra.settings.edge import EdgeSettings
from infra.telemetry import get_logger

STOP_S = 10.0
WATCH_EVERY_S = 0.25
SWAP_WITHIN_S = 60.0

_NEVER_SILENT = ("mic", "exec", "stdin")
"""Sources that deliver only zeros by mistake, never on purpose."""
_NEVER_PAUSE = ("mic", "exec")


log = get_logger("ears")

OpenSource = Callable[[str, SourceOptions], AudioSource]
"""As `edge_node.audio.open_source`."""


class WakeListener(Protocol):
    """Receives events on the event loop."""

    def heard(self, trigger: Trigger, heard_at: float) -> None:
        """The wake word was recognised; `heard_at` is monotonic."""
        ...

    def alarm(self, name: Alarm, raised: bool) -> None:
        """A condition keeps the node from receiving sound, or no longer does."""
        ...

    def mute(self, muted: bool) -> None:
        """The node was muted or unmuted."""
        ...

    def near(self, misses: NearMisses) -> None:
        """What was nearly a wake until now; called often."""
        ...


class ListeningService:
    """Listens inside of `open`, from `start` on.

    Attributes:
        detector: recognises the wake word; set by `open`, replaced by `swap`.
        triggers: how often it was recognised.
        end: set when the audio thread has ended, with what ended it, None at the end of the sound.
    """

    detector: NativeDetector | OpenWakeWordDetector
    _source: AudioSource
    _mute: Mute
    _gate: Gate
    _writer: Writer
    _listener: Listener
    _handover: Handover
    _notify: Notify
    _watchdog: Watchdog

    def __init__(
        self,
        edge: EdgeSettings,
        device_id: str,
        clock: Clock,
        open_source: OpenSource,
        *,
        model: Path | None = None,
    ) -> None:
        self._edge = edge
        self._model = model or edge.model
        self.triggers = 0
        self._device_id = device_id
        self._clock = clock
        self._open_source = open_source
        self._kind = edge.source.partition(":")[0]
        self._voices = VoiceWatch(voice_path(edge.state_dir, device_id), self._load_voice, self._adopt)
        self._loop = asyncio.get_running_loop()
        self.end: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._hearer: WakeListener | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Load the model, take pins and source, and give the source back.

        Raises SettingsError or StartError if one of them cannot be used.
        """
        edge = self._edge
        if edge.engine == "native":
            self.detector = NativeDetector(self._model, second_stage=edge.second_stage)
        else:
            self.detector = OpenWakeWordDetector(edge.model)
        self._handover = Handover(self.detector)
        if str(self.detector.head.fit):
            log.info("head_adapted", model=self.detector.model, to=str(self.detector.head.fit))
        if self.detector.head.second_missing is not None:
            log.warning("second_stage_missing", model=self.detector.model, why=self.detector.head.second_missing)
        self._gate = gate = Gate(self._gate_settings(edge.threshold))
        switch = Switch(Pins(), edge.gpio_mute) if edge.gpio_mute is not None else None
        self._mute = Mute(edge.state_dir, self._device_id, switch)
        options = SourceOptions(
            lead_in_s=self.detector.head.lead_in_s,
            microphone=MicrophoneOptions(rate_hz=edge.rate_hz, channel=edge.channel),
            return_s=edge.microphone_return_s,
            on_change=self._changed,
        )
        self._source = self._open_source(edge.source, options)
        try:
            # Also if nothing is stored now: earlier recordings grow old.
            folder = TriggerFolder(edge.state_dir, self._device_id)
            self._writer = Writer(folder, Limits.of(edge), self._clock.utc_now)
            keeping = TriggerRecorder(gate, self._writer) if edge.keep_triggers else None
            # A source of files or standard input may pause; a lost microphone has its own time limit.
            deaf_s = edge.microphone_return_s + DEAF_S if self._kind in _NEVER_PAUSE else None
            self._notify = notifier(os.environ)
            now = self._clock.monotonic()
            self._watchdog = Watchdog(self._notify, watchdog_s(os.environ, os.getpid()), deaf_s, now)
            self._listener = Listener(
                self._source, self._handover, gate, self._triggered, self._ended, self._silent, on_frame=keeping
            )
            yield
        finally:
            self._source.close()

    def start(self, hearer: WakeListener) -> None:
        """Listen from now on; once."""
        self._hearer = hearer
        self._look_at_mute(hearer)
        self._writer.start()
        self._voices.look()
        self._listener.start()

    async def watch(self) -> None:
        """Watch the thread until cancelled; raises DeafError when it no longer scores sound."""
        while True:
            if self._hearer is not None:
                self._look_at_mute(self._hearer)
                self._hearer.near(self._listener.near.found)
            if self._voices.changed():
                await asyncio.to_thread(self._voices.look)
            self._watchdog.look(self._listener.scored, self._clock.monotonic())
            await self._clock.sleep(WATCH_EVERY_S)

    async def swap(self, detector: NativeDetector, model: Path | None) -> None:
        """Let another detector hear, of this model's file (None: the device's own), once it has scores.

        Raises MessageError if no sound came for it; then the detector from before still hears.
        """
        before, of_before = self.detector, self._model
        hears: asyncio.Future[None] = self._loop.create_future()

        def taken(by: NativeDetector | OpenWakeWordDetector, path: Path | None) -> None:
            self.detector, self._model = by, path
            self._gate.adjust(self._gate_settings(self._edge.threshold))
            self._loop.call_soon_threadsafe(_set, hears)

        def give_up() -> None:
            if not self._handover.abandon(detector):  # it took over at the last moment
                self._handover.begin(before, partial(taken, before, of_before))

        of_detector = model or self._edge.model
        self._listener.call(partial(self._handover.begin, detector, partial(taken, detector, of_detector)))
        try:
            async with asyncio.timeout(SWAP_WITHIN_S):
                await hears
        except TimeoutError:
            self._listener.call(give_up)
            raise MessageError("no sound came that the new model could hear") from None

    def set_mute(self, muted: bool) -> bool:
        """Mute by software; returns whether the node is muted now, which a switch may have decided.

        OSError as `Mute.set`.
        """
        self._mute.set(muted)
        return self._look_at_mute(self._hearer) if self._hearer is not None else bool(self._mute)

    @property
    def near_misses(self) -> int:
        """How many there were."""
        return self._listener.near.found.count

    def numbers(self) -> Numbers:
        """The counters of this half of the node."""
        counted = Numbers(frames=self._listener.frames, scored=self._listener.scored)
        source = self._source
        if not isinstance(source, Capture):
            return counted
        return replace(counted, gaps=source.gaps, lost_s=source.lost_s, ring=source.waiting, returns=source.returns)

    async def stop(self) -> None:
        """Close the source and wait for the end of the thread."""
        self._notify("STOPPING=1")
        await asyncio.to_thread(self._listener.stop, STOP_S)
        await asyncio.to_thread(self._writer.stop, STOP_S)

    def _look_at_mute(self, hearer: WakeListener) -> bool:
        self._listener.muted = muted = bool(self._mute)
        hearer.mute(muted)
        return muted

    def _load_voice(self, path: Path) -> Learned:
        if not isinstance(self.detector, NativeDetector):
            raise SettingsError("a voice needs edge.engine = native")
        return Learned.load(path, self._model)

    def _adopt(self, voice: Learned | None) -> None:
        edge = self._edge
        threshold = edge.threshold if voice is None or edge.threshold is not None else voice.threshold
        self._listener.call(partial(self._take, self._gate_settings(threshold), voice))

    def _gate_settings(self, threshold: float | None) -> GateSettings:
        edge = self._edge
        return self.detector.advice.gate(edge.strictness, threshold, edge.patience, edge.refractory_s)

    # From the audio thread:

    def _take(self, settings: GateSettings, voice: Learned | None) -> None:
        self._gate.adjust(settings)
        look = voice.look if voice is not None else None
        if isinstance(self.detector, NativeDetector):
            self.detector.adopt(look, alone=voice is not None)
        event = "voice_left" if voice is None else "voice_adopted"
        log.info(event, threshold=settings.threshold, verifier=look is not None)

    def _triggered(self, trigger: Trigger) -> None:
        self.triggers += 1
        if self._hearer is not None:
            self._loop.call_soon_threadsafe(self._hearer.heard, trigger, self._clock.monotonic())

    def _ended(self, error: BaseException | None) -> None:
        self._loop.call_soon_threadsafe(self.end.set_result, error)

    def _changed(self, change: Change) -> None:
        self._alarm("microphone_lost", change == "lost")

    def _silent(self, silent: bool) -> None:
        if self._kind in _NEVER_SILENT:
            self._alarm("digital_silence", silent)

    def _alarm(self, name: Alarm, raised: bool) -> None:
        if self._hearer is not None:
            self._loop.call_soon_threadsafe(self._hearer.alarm, name, raised)


def _set(done: asyncio.Future[None]) -> None:
    """Its waiter may be gone."""
    if not done.done():
        done.set_result(None)
