"""A tritonserver on every node that classifies, started by the job and ended with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NodeServers:
    """Servers that only their own node asks.

    Attributes:
        bundles: folders of the members, the same on every node.
        models: names of the ensembles that are asked, see ``core.specs``.
    """

    bundles: tuple[str, ...]
    models: tuple[str, ...]

    @contextmanager
    def running(self) -> Iterator[None]:
        """One on each node that is there, for as long as the block lasts.

        Raises:
            ray.exceptions.RayError: if one does not start; its last line says why.
        """
        import ray

        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        servers = [self._actor(node) for node in nodes]  # Ray ends those that nobody holds
        ray.get([server.url.remote() for server in servers])
        yield
        ray.get([server.close.remote() for server in servers])

    def here(self) -> Any:
        """Handle of that of the node this actor runs on, started if the node has joined the cluster since."""
        import ray

        return self._actor(ray.get_runtime_context().get_node_id())

    def _actor(self, node: str) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "name": f"reelkind-server-{node}",
            "get_if_exists": True,
            "num_cpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        return ray.remote(_Server).options(**options).remote(self.bundles, self.models)


def address(server: Any) -> str:
    """Where the server of a handle listens, once it does."""
    import ray

    url: str = ray.get(server.url.remote())
    return url


class _Server:
    """The actor."""

    def __init__(self, bundles: tuple[str, ...], models: tuple[str, ...]) -> None:
        from reelkind.deployment.embedded import embedded_server

        self._stack = ExitStack()
        self._url = self._stack.enter_context(embedded_server(bundles, ensembles=models)).url

    def url(self) -> str:
        return self._url

    def close(self) -> None:
        self._stack.close()
