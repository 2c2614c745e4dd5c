"""Who may be asked: the members that a server has, all of them together, and what each offers."""

from __future__ import annotations

from typing import Any

from reelkind.client import Client, ModelUnavailable, ServerInfo
from reelkind.core.specs import ALL_MEMBERS, TTA


def groups(client: Client) -> list[dict[str, Any]]:
    """The default member first, the others by name, all together last.

    Raises:
        ClientError: if the server does not answer.
    """
    default = client.server_info()
    together = _info(client, ALL_MEMBERS)
    members = together.model.members if together else default.model.members
    first = default.model.members[0]
    names = [first, *sorted(set(members) - {first})]
    found = [described for name in names if (described := _describe(client, name, name == first))]
    if together and len(members) > 1 and (described := _describe(client, ALL_MEMBERS, False)):
        found.append(described)
    return found or [{**_fields(default), "name": None, "default": True, "tta": ["off"]}]


def _describe(client: Client, name: str, is_default: bool) -> dict[str, Any] | None:
    """One group, or None if the server has only part of it."""
    if (info := _info(client, name)) is None:
        return None
    offered = [tta for tta in TTA if tta == "off" or _info(client, name, tta)]
    return {**_fields(info), "name": name, "default": is_default, "tta": offered}


def _fields(info: ServerInfo) -> dict[str, Any]:
    return {
        "members": list(info.model.members),
        "untrained": list(info.model.untrained),
        "num_frames": info.num_frames,
        "frame_size_px": info.frame_size_px,
        "classes": list(info.classes),
        "abstain_below": info.abstain_below,
        "weights": [digest[:12] for digest in info.model.weights],
    }


def _info(client: Client, name: str, tta: str = "off") -> ServerInfo | None:
    try:
        return client.server_info(member=name, tta=tta)
    except ModelUnavailable:
        return None
