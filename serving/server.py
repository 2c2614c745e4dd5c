"""A model repository to a server that answers, and back to nothing.

with TritonServer(repository, grpc_port=0, http_port=0, metrics_port=0) as server:
    ...  # server.url is "127.0.0.1:<port>"; every ensemble can answer
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reelkind.core.files.server_keys import drop_key, keep_key

from .command import server_command
from .control import CanaryError, Control
from .errors import ServingError
from .install.runtime import Runtime, find_runtime
from .models import covering, ensemble_configs
from .options import ServerOptions
from .ports import LOOPBACK, Addresses, claim, is_open
from .process import processes
from .process.failures import crashed, explain, is_fatal, port_was_taken
from .process.tree import ProcessTree
from .supervisor import CANARY_FRAMES, Supervisor

logger = logging.getLogger(__name__)

DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT, DEFAULT_METRICS_PORT = 8001, 8000, 8002

_POLL_S = 0.05
_CANARY_TIMEOUT_S = 60.0
_START_TIMEOUT_S = 300.0  # until all must have answered
_STOP_TIMEOUT_S = 30.0  # for answers in flight
_TRACE_FILE_S = 20.0  # the file is written when all models are unloaded
# A picked port may be taken by somebody else; on a starved machine tritonserver may crash in loading.
_START_ATTEMPTS = 3


class TritonServer:
    """One tritonserver on this machine, supervised."""

    def __init__(
        self,
        repository: str | os.PathLike[str],
        *,
        runtime: Runtime | None = None,
        host: str = LOOPBACK,
        grpc_port: int = DEFAULT_GRPC_PORT,
        http_port: int = DEFAULT_HTTP_PORT,
        metrics_port: int = DEFAULT_METRICS_PORT,
        log_file: str | os.PathLike[str] | None = None,
        supervise: bool = True,
        owned: Sequence[Path] = (),
        options: ServerOptions | None = None,
    ) -> None:
        """Describe the server; nothing runs before ``start`` or ``with``.

        Args:
            repository: folder of models; all of them are loaded.
            runtime: the tritonserver to start; default: ``find_runtime()``.
            host: IPv4 address or name to listen on. There is no authentication: keep to loopback or a closed network.
            grpc_port: for inference; 0 picks a free one, as it does for the others.
            http_port: for the HTTP API.
            metrics_port: for Prometheus.
            log_file: where tritonserver's output is appended; default: a file that is deleted when the server stops.
            supervise: bring back what crashes.
            owned: folders to delete if this process dies without calling ``stop``; never deleted otherwise.
            options: TLS, response cache, traces.
        """
        self.repository = Path(repository).absolute()
        self._runtime = runtime
        self._wanted_ports = (grpc_port, http_port, metrics_port)
        self._host = host
        self._log_file = None if log_file is None else Path(log_file).absolute()
        self._owned = tuple(Path(folder).absolute() for folder in owned)
        self._supervisor = Supervisor(self) if supervise else None
        self.options = options or ServerOptions()
        self.key = secrets.token_hex(16)  # opens the APIs that others must not use
        self._scratch: Path | None = None
        self._tree: ProcessTree | None = None
        self._addresses: Addresses | None = None
        self._control: Control | None = None
        self._key_files: list[Path] = []
        self._stopping = False
        self.configs: dict[str, Any] = {}

    @property
    def addresses(self) -> Addresses:
        """Host and ports it listens on."""
        if self._addresses is None:
            raise ServingError("the server has not been started")
        return self._addresses

    @property
    def url(self) -> str:
        """``host:port`` for gRPC clients on this machine."""
        return self.addresses.grpc_url

    @property
    def http_url(self) -> str:
        """Base URL of the HTTP API."""
        return self.addresses.http_url

    @property
    def ensembles(self) -> tuple[str, ...]:
        """Names of the ensembles that answer."""
        return tuple(self.configs)

    @property
    def control(self) -> Control:
        """Calls to the server; the supervisor's thread alone may use it while there is one."""
        if self._control is None:
            self._control = Control(self.url, self.key, self.options.tls)
        return self._control

    def __enter__(self) -> TritonServer:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Start tritonserver and return when every composing model has answered and every ensemble is ready.

        Raises:
            ServingError: one sentence with the reason; nothing is left running.
        """
        if self._tree is not None:
            raise ServingError("a server can be started once")
        if self.options.tls:
            self.options.tls.check()
        self.configs = ensemble_configs(self.repository)
        self._runtime = self._runtime or find_runtime()
        self._scratch = Path(tempfile.mkdtemp(prefix="reelkind-server-"))
        log_file = self._log_file or self._scratch / "server.log"
        unload = {"unload_s": _TRACE_FILE_S} if self.options.tracing and self.options.tracing.file else {}
        self._tree = ProcessTree(log_file, _STOP_TIMEOUT_S, [self._scratch, *self._owned], **unload)
        try:
            for attempts_left in reversed(range(_START_ATTEMPTS)):
                drop_key(self._key_files, self.key)
                self._key_files = []
                self._addresses = claim(self._host, *self._wanted_ports, encrypted=self.options.tls is not None)
                try:
                    self._launch()
                    break
                except ServingError as error:
                    if self._stopping or not (attempts_left and self._may_start_again()):
                        raise
                    logger.warning("%s; starting it again", error)
                    self._end(graceful=False)
        except BaseException:
            self._end(graceful=False)
            drop_key(self._key_files, self.key)
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        if self._supervisor:
            self._supervisor.start()

    def stop(self) -> None:
        """Let answers in flight finish, then end every process and delete what this run left in shared memory."""
        self._stopping = True
        if self._supervisor:
            self._supervisor.stop()
        if self._tree:
            self._tree.close()
        if self._supervisor:
            self._supervisor.join()
        self._hang_up()
        drop_key(self._key_files, self.key)
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def restart(self) -> None:
        """Kill what is left and start again on the same ports.

        Raises:
            ServingError: if it does not come back, or is being stopped.
        """
        self._end(graceful=False)
        self._launch()

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until the supervisor gives up, or ``timeout_s`` has passed.

        Raises:
            ServingError: with the supervisor's reason.
        """
        if self._supervisor is not None:
            self._supervisor.wait(timeout_s)

    def is_running(self) -> bool:
        """Whether tritonserver's process is there; it may still be unable to answer."""
        return self._tree is not None and self._tree.is_running()

    def is_halted(self) -> bool:
        """Whether tritonserver's process is there, but stopped."""
        return self._tree is not None and self._tree.is_halted()

    def why_it_ended(self) -> str:
        """The reason in tritonserver's log, or its exit status, as one line."""
        return explain(self._tree.log(), self._tree.exit_status()) if self._tree else "it was never started"

    def stubs(self) -> list[processes.Stub]:
        """Processes of the Python models."""
        return [] if self._tree is None else self._tree.stubs()

    def process_ids(self) -> list[int]:
        """All its living processes."""
        return [] if self._tree is None else self._tree.process_ids()

    def close_regions(self) -> None:
        """Leave the models' shared memory to its owner alone; to be repeated when models were loaded."""
        if self._tree is not None:
            self._tree.close_regions()

    def _may_start_again(self) -> bool:
        """Whether what went wrong was chance: a picked port taken meanwhile, or a crash of tritonserver itself."""
        assert self._tree is not None
        lost_port = 0 in self._wanted_ports and port_was_taken(self._tree.log())
        return lost_port or crashed(self._tree.exit_status())

    def _launch(self) -> None:
        assert self._runtime is not None
        assert self._tree is not None
        assert self._scratch is not None
        command = server_command(
            self._runtime,
            self.repository,
            self.addresses,
            scratch=self._scratch,
            shm_prefix=self._tree.shm_prefix,
            key=self.key,
            stop_timeout_s=_STOP_TIMEOUT_S,
            extras=self.options,
        )
        if not self._key_files:
            ports = self.addresses.grpc_port, self.addresses.http_port
            self._key_files = keep_key(ports, self.key)
        self._tree.launch(command, self._runtime.variables(), self._key_files)
        self._wait_until_answering(self._tree, time.monotonic() + _START_TIMEOUT_S)

    def _wait_until_answering(self, tree: ProcessTree, deadline: float) -> None:
        reason = "it does not listen yet"
        is_ours = False
        asked = covering(self.configs)  # once these answer, the others lack no model: being ready is enough
        waiting = [*asked, *(name for name in self.configs if name not in asked)]
        while waiting:
            # gRPC backs off for seconds after a refused connection: ask only when somebody listens.
            if all(is_open(host, port) for host, port in self.addresses.listeners):
                try:
                    if not is_ours:
                        self.control.loaded()  # another server on these ports would not take our key
                        is_ours = True
                    if waiting[0] in asked:
                        self.control.canary(self.configs[waiting[0]], _CANARY_TIMEOUT_S, CANARY_FRAMES)
                    else:
                        self.control.require_ready(waiting[0])
                    waiting.pop(0)
                    continue
                except CanaryError as error:
                    reason = str(error)
            if not tree.is_running() or self._stopping or is_fatal(tree.log()):
                raise ServingError(self.why_it_ended())
            if time.monotonic() > deadline:
                raise ServingError(f"tritonserver did not answer within {_START_TIMEOUT_S:.0f} s: {reason}")
            time.sleep(_POLL_S)
        self.close_regions()

    def _end(self, graceful: bool) -> None:
        if self._tree is not None:
            self._tree.terminate(graceful)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
