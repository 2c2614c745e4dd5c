"""What a server offers beyond answers, to tritonserver's options: TLS, response cache, traces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import ServingError
from .tls import ServerTls

SERVICE_NAME = "reelkind"


@dataclass(frozen=True)
class Tracing:
    """Where the times of requests go.

    Attributes:
        otlp_url: an OpenTelemetry collector's HTTP endpoint, e.g. ``http://host:4318/v1/traces``.
        file: instead of a collector, a JSON file in Triton's own format, written when the server stops.
        rate: every how manieth request is traced.
    """

    otlp_url: str | None = None
    file: Path | None = None
    rate: int = 1

    def __post_init__(self) -> None:
        if (self.otlp_url is None) == (self.file is None):
            raise ValueError("traces go to a collector or to a file: give one of the two")
        if self.otlp_url is not None and not self.otlp_url.startswith(("http://", "https://")):
            raise ServingError(f"{self.otlp_url!r} is no OTLP endpoint: it looks like http://host:4318/v1/traces")


@dataclass(frozen=True)
class ServerOptions:
    """What a server offers beyond answers.

    Attributes:
        tls: encrypts gRPC; HTTP stays plain, on loopback, and gives health and metadata only.
        response_cache_bytes: memory for answers already given; 0 for none. Ensembles opt in by their config.
        tracing: where the times of requests go, if anywhere.
        open_http: whether anybody may ask for inference by plain HTTP, whose parser one message can end tritonserver
            in; default: on loopback only. Never beside TLS.
    """

    tls: ServerTls | None = None
    response_cache_bytes: int = 0
    tracing: Tracing | None = None
    open_http: bool | None = None

    def keeps_http(self, exposed: bool) -> bool:
        """Whether inference by HTTP is for holders of the key only, where other machines reach it or do not."""
        return self.tls is not None or (exposed if self.open_http is None else not self.open_http)


def tls_options(tls: ServerTls, scratch: Path) -> dict[str, object]:
    """Encryption of gRPC; ``scratch`` takes the list of who may sign clients' certificates."""
    options: dict[str, object] = {
        "grpc-use-ssl": "true",
        "grpc-server-cert": tls.certificate.absolute(),
        "grpc-server-key": tls.key.absolute(),
    }
    if tls.client_ca is not None:
        roots = scratch / "client-roots.pem"
        roots.write_bytes(tls.client_roots())
        options |= {"grpc-use-ssl-mutual": "true", "grpc-root-cert": roots}
    return options


def trace_settings(tracing: Tracing) -> list[str]:
    """Values of the repeatable option ``trace-config``."""
    common = ["level=TIMESTAMPS", f"rate={tracing.rate}"]
    if tracing.file is not None:
        return [*common, "mode=triton", f"triton,file={tracing.file.absolute()}"]
    service = f"opentelemetry,resource=service.name={SERVICE_NAME}"
    return [*common, "mode=opentelemetry", f"opentelemetry,url={tracing.otlp_url}", service]
