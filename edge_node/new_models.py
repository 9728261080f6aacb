"""Ties together what a node needs to take models from the bridge."""

from pathlib import Path

from contract.clock import Clock
from contract.errors import SettingsError
from edge_node.listening.service import ListeningService
from edge_node.models.folder import ModelFolder
from edge_node.models.update import Counted, ModelUpdater
from edge_node.uplink.mqtt import EdgeNode
from edge_node.wakeword.native import Head, NativeDetector
from edge_node.wakeword.voice_watch import voice_path
from infra.settings.edge import EdgeSettings
from infra.settings.loader import Settings


def folder_of(settings: Settings, device_id: str) -> ModelFolder | None:
    """Where the node keeps the models that it is given; None if it takes none."""
    edge = settings.edge
    if edge.model_key is None or edge.uplink != "mqtt":
        return None
    return ModelFolder(edge.state_dir, device_id, edge.model_key)


def starting_model(models: ModelFolder, edge: EdgeSettings, device_id: str) -> Path | None:
    """The model to start with; None for the node's own: there is none, it cannot be used, or something else decides."""
    path = models.start()
    if path is None:
        return None
    if edge.engine != "native" or edge.model is not None or voice_path(edge.state_dir, device_id).exists():
        models.give_up("the node's settings or an enrolled voice need its own model")
        return None
    try:
        Head(path, second_stage=edge.second_stage)
    except SettingsError as error:
        models.give_up(str(error))
        return None
    return path


def updater(
    settings: Settings,
    device_id: str,
    models: ModelFolder,
    node: EdgeNode,
    listening: ListeningService,
    clock: Clock,
) -> ModelUpdater:
    """What carries out requests for other models; it gets them from the node."""
    edge = settings.edge

    async def swap(detector: NativeDetector, path: Path | None) -> None:
        await listening.swap(detector, path)
        node.uses_model(detector.model)

    made = ModelUpdater(
        edge,
        models,
        clock,
        swap=swap,
        own=lambda: NativeDetector(edge.model, second_stage=edge.second_stage),
        voice=lambda: voice_path(edge.state_dir, device_id).exists(),
        counted=lambda: Counted(listening.triggers, listening.near_misses),
        tell=node.tell_model,
        model=listening.detector.model,
        ca_file=edge.ca_file or settings.mqtt.ca_file,
    )
    node.on_model_order = made.order
    return made
