"""The listening half of a node on its event loop: the audio thread, who may mute it, and who watches over it."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from contract.clock import Clock
from contract.errors import SettingsError
from contract.sections.edge import EdgeSettings
from contract.telemetry import get_logger
from edge_node.audio import AudioSource, SourceOptions
from edge_node.capture import Capture, Change
from edge_node.events import Alarm
from edge_node.gate import Gate, GateSettings, Trigger
from edge_node.gpio import Pins
from edge_node.listener import Listener
from edge_node.metrics import Numbers
from edge_node.microphone import MicrophoneOptions
from edge_node.mute import Mute, Switch
from edge_node.triggers.folder import Limits, TriggerFolder
from edge_node.triggers.keeping import Keeping
from edge_node.triggers.writer import Writer
from edge_node.wakeword.adopting import Learned, VoiceWatch, voice_path
from edge_node.wakeword.native import NativeDetector
from edge_node.wakeword.openwakeword import OpenWakeWordDetector
from edge_node.watchdog import DEAF_S, Watchdog, notifier, watchdog_s

STOP_S = 10.0
WATCH_EVERY_S = 0.25

_NEVER_SILENT = ("mic", "exec", "stdin")
"""Sources that give nothing but zeros only by mistake."""
_NEVER_PAUSE = ("mic", "exec")


log = get_logger("ears")

OpenSource = Callable[[str, SourceOptions], AudioSource]
"""As `edge_node.audio.open_source`."""


class Hearer(Protocol):
    """Who is told, on the event loop."""

    def heard(self, trigger: Trigger, heard_at: float) -> None:
        """The wake word; `heard_at` is monotonic."""
        ...

    def alarm(self, name: Alarm, raised: bool) -> None:
        """Something keeps the node from hearing, or does not any more."""
        ...

    def mute(self, muted: bool) -> None:
        """The node listens no more, or again."""
        ...


class Ears:
    """Opens the source; raises SettingsError or StartError if it, the model or a pin cannot be used.

    Attributes:
        detector: what tells the wake word.
    """

    def __init__(self, edge: EdgeSettings, device_id: str, clock: Clock, open_source: OpenSource) -> None:
        self.detector: NativeDetector | OpenWakeWordDetector
        self.detector = NativeDetector(edge.model) if edge.engine == "native" else OpenWakeWordDetector(edge.model)
        self._advice = advice = self.detector.advice
        self._edge = edge
        self._gate = gate = Gate(advice.gate(edge.strictness, edge.threshold, edge.patience, edge.refractory_s))
        switch = Switch(Pins(), edge.gpio_mute) if edge.gpio_mute is not None else None
        self._mute = Mute(edge.state_dir, device_id, switch)
        if str(self.detector.head.fit):
            log.info("head_adapted", model=self.detector.model, to=str(self.detector.head.fit))
        options = SourceOptions(
            lead_in_s=self.detector.head.lead_in_s,
            microphone=MicrophoneOptions(rate_hz=edge.rate_hz, channel=edge.channel),
            return_s=edge.microphone_return_s,
            on_change=self._changed,
        )
        self._kind = edge.source.partition(":")[0]
        self._source = open_source(edge.source, options)
        # Also where nothing is kept: what was kept before grows old.
        self._writer = Writer(TriggerFolder(edge.state_dir, device_id), Limits.of(edge), clock.utc_now)
        keeping = Keeping(gate, self._writer) if edge.keep_triggers else None
        self._listener = Listener(
            self._source, self.detector, gate, self._triggered, self._ended, self._silent, on_frame=keeping
        )
        self._voices = VoiceWatch(voice_path(edge.state_dir, device_id), self._load_voice, self._adopt)
        self._clock = clock
        # Who plays files or feeds standard input may pause; a lost microphone has its own time.
        deaf_s = edge.microphone_return_s + DEAF_S if self._kind in _NEVER_PAUSE else None
        self._notify = notifier(os.environ)
        self._watchdog = Watchdog(self._notify, watchdog_s(os.environ, os.getpid()), deaf_s, clock.monotonic())
        self._loop = asyncio.get_running_loop()
        self.end: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._hearer: Hearer | None = None

    def start(self, hearer: Hearer) -> None:
        """Listen from now on; once."""
        self._hearer = hearer
        self._look_at_mute(hearer)
        self._writer.start()
        self._voices.look()
        self._listener.start()

    async def watch(self) -> None:
        """Look after the thread until cancelled; raises DeafError when it hears nothing any more."""
        while True:
            if self._hearer is not None:
                self._look_at_mute(self._hearer)
            if self._voices.changed():
                await asyncio.to_thread(self._voices.look)
            self._watchdog.look(self._listener.scored, self._clock.monotonic())
            await asyncio.sleep(WATCH_EVERY_S)

    def set_mute(self, muted: bool) -> bool:
        """Mute by software; whether the node is muted now, which a switch may have decided. OSError as `Mute.set`."""
        self._mute.set(muted)
        return self._look_at_mute(self._hearer) if self._hearer is not None else bool(self._mute)

    def numbers(self) -> Numbers:
        """What was counted so far, of this half."""
        counted = Numbers(frames=self._listener.frames, scored=self._listener.scored)
        source = self._source
        if not isinstance(source, Capture):
            return counted
        return replace(counted, gaps=source.gaps, lost_s=source.lost_s, ring=source.waiting, returns=source.returns)

    async def stop(self) -> None:
        """Close the source and let the thread end, if it does."""
        self._notify("STOPPING=1")
        await asyncio.to_thread(self._listener.stop, STOP_S)
        await asyncio.to_thread(self._writer.stop, STOP_S)

    def close(self) -> None:
        """Release the source, also if nothing was ever listened to; any number of times."""
        self._source.close()

    def _look_at_mute(self, hearer: Hearer) -> bool:
        self._listener.muted = muted = bool(self._mute)
        hearer.mute(muted)
        return muted

    def _load_voice(self, path: Path) -> Learned:
        if not isinstance(self.detector, NativeDetector):
            raise SettingsError("a voice needs edge.engine = native")
        return Learned.load(path, self._edge.model)

    def _adopt(self, voice: Learned | None) -> None:
        edge = self._edge
        threshold = edge.threshold if voice is None or edge.threshold is not None else voice.threshold
        settings = self._advice.gate(edge.strictness, threshold, edge.patience, edge.refractory_s)
        self._listener.call(partial(self._take, settings, voice))

    # From the audio thread

    def _take(self, settings: GateSettings, voice: Learned | None) -> None:
        self._gate.adjust(settings)
        look = voice.look if voice is not None else None
        if isinstance(self.detector, NativeDetector):
            self.detector.adopt(look)
        event = "voice_left" if voice is None else "voice_adopted"
        log.info(event, threshold=settings.threshold, verifier=look is not None)

    def _triggered(self, trigger: Trigger) -> None:
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
