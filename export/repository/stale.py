"""A folder with another deployment's models: which of them would answer with files they were not written for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from reelkind.core.abstaining import Identity
from reelkind.core.bundle import Bundle

from ..errors import ExportError


def refuse_stale_ensembles(folder: Path, written: Collection[str], members: Mapping[str, Bundle]) -> None:
    """Make sure that every ensemble which is left as it is says the truth about the members that are written.

    Args:
        folder: the repository; need not exist.
        written: ensembles that are replaced.
        members: what is written, by name.

    Raises:
        ExportError: if an ensemble that stays has other weights or temperatures of a member.
    """
    for path in sorted(folder.glob("*/config.pbtxt")):
        config = _parse(path)
        if config.platform != "ensemble" or path.parent.name in written:
            continue
        names, weights, temperatures = (
            config.parameters[key].string_value.split(",") for key in ("members", "weights", "temperatures")
        )
        for name, *told in zip(names, weights, temperatures, strict=False):
            if name not in members:
                continue
            new = Identity.of(members[name])
            if told != [new.weights, repr(new.temperature)]:
                raise ExportError(
                    f"{path.parent} averages or reads another {name} than the one in {members[name].folder}, and would "
                    f"answer with a mixture: choose another folder, or remove {folder} first"
                )


def _parse(path: Path) -> pb.ModelConfig:
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())
    except (text_format.ParseError, OSError, UnicodeDecodeError):
        return pb.ModelConfig()  # a model of somebody else's
