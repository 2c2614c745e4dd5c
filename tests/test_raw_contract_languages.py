"""Programs and commands of docs/raw_contract.md: built as the page says, run against a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from test_raw_contract import CLASSES, blocks, request
from tritonclient.grpc import service_pb2_grpc

from reelkind.serving.options import ServerOptions
from reelkind.serving.server import TritonServer
from reelkind.serving.tls import ServerTls

pytestmark = pytest.mark.triton

CLIPS = np.random.default_rng(1).integers(0, 256, (2, 16, 224, 224, 3), np.uint8)
DEBIAN_GO = "/usr/share/gocode"  # where Debian puts the sources of Go's libraries


@dataclass(frozen=True)
class Language:
    """A program of the page.

    Attributes:
        title: its heading.
        fence: the language of its block.
        file: what the page calls it.
        needs: command that fails where something is missing that the page asks for.
    """

    title: str
    fence: str
    file: str
    needs: str


LANGUAGES = (
    Language("Python", "python", "classify.py", "python -c 'import tritonclient.grpc'"),
    Language("Node.js", "js", "classify.js", """node -e 'require("@grpc/grpc-js"); require("@grpc/proto-loader")'"""),
    Language(
        "Go",
        "go",
        "classify.go",
        "type protoc protoc-gen-go protoc-gen-go-grpc && go doc google.golang.org/grpc.NewClient",
    ),
    Language("C++", "cpp", "classify.cc", "type g++ protoc grpc_cpp_plugin && pkg-config --exists grpc++ protobuf"),
)


class Workshop:
    """A folder with the page's ``infer.proto`` and two clips, and a shell in it."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "src" / "example"  # what Go expects of the module ``example``
        self.folder.mkdir(parents=True)
        (self.folder / "infer.proto").write_text(blocks("proto", "gRPC")[0], encoding="utf-8")
        for name, clip in zip(("frames.rgb", "second.rgb"), CLIPS, strict=True):
            (self.folder / name).write_bytes(clip.tobytes())
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GO111MODULE": "off",
            "GOPATH": f"{home}:{DEBIAN_GO}",
        }
        if "NODE_PATH" not in os.environ and shutil.which("npm"):
            self._environment["NODE_PATH"] = self.shell("npm root --global").stdout.strip()

    def shell(self, command: str, timeout_s: float = 60, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self._environment | variables,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


class Program(Workshop):
    """A program of the page, built."""

    def __init__(self, language: Language, home: Path) -> None:
        super().__init__(home)
        if self.shell(language.needs).returncode:
            pytest.skip(f"not everything is installed for {language.title}: `{language.needs}` fails")
        (source,) = blocks(language.fence, language.title)
        (self.folder / language.file).write_text(source, encoding="utf-8")
        (commands,) = blocks("sh", language.title)
        *build, self._run = commands.splitlines()
        for command in build:
            done = self.shell(command, timeout_s=300)  # Go compiles all of gRPC the first time
            assert done.returncode == 0, done.stderr

    def __call__(self, address: str, *paths: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = self._run.replace("localhost:8001 frames.rgb", " ".join((address, *paths)))
        assert command != self._run
        return self.shell(command, **variables)


@pytest.fixture(scope="module", params=LANGUAGES, ids=lambda language: language.title)
def program(request, tmp_path_factory) -> Program:
    return Program(request.param, tmp_path_factory.mktemp("home"))


@pytest.fixture
def workshop(tmp_path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture(scope="module")
def expected(triton_server) -> np.ndarray:
    """Probabilities of the two clips: float32 [2, 4]."""
    with grpc.insecure_channel(triton_server.url) as channel:
        response = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request("classify", CLIPS), timeout=60)
    place = [output.name for output in response.outputs].index("probabilities")
    return np.frombuffer(response.raw_output_contents[place], np.float32).reshape(2, len(CLASSES))


@dataclass(frozen=True)
class Encrypted:
    """A server that encrypts, and who signed its certificate."""

    address: str
    ca_file: str


@pytest.fixture(scope="module")
def encrypted(triton_runtime, served_bundle, tmp_path_factory) -> Iterator[Encrypted]:
    from reelkind.deployment.embedded import temporary_repository

    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    options = ServerOptions(tls=ServerTls(folder / "server.pem", folder / "server.pem"))
    free = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
    with (
        temporary_repository([served_bundle.folder], triton_runtime, ensembles=["classify"]) as repository,
        TritonServer(repository, runtime=triton_runtime, options=options, **free) as server,
    ):
        yield Encrypted(f"localhost:{server.url.rpartition(':')[2]}", str(folder / "ca.pem"))


def check(printed: str, expected: np.ndarray) -> None:
    rows = [line.split() for line in printed.splitlines()]
    assert [row[:2] for row in rows] == [[path, name] for path in ("frames.rgb", "second.rgb") for name in CLASSES]
    np.testing.assert_allclose([float(row[2]) for row in rows], expected.ravel(), atol=1e-4)


def test_program_answers_several_videos(program, triton_server, expected) -> None:
    done = program(triton_server.url, "frames.rgb", "second.rgb")
    assert done.returncode == 0, done.stderr
    check(done.stdout, expected)


def test_program_says_why_the_server_refused(program, triton_server) -> None:
    (program.folder / "short.rgb").write_bytes(bytes(1008))
    done = program(triton_server.url, "short.rgb")
    assert (done.returncode, done.stdout) == (1, "")
    assert "input byte size mismatch for input 'frames'" in done.stderr
    assert "Expected 2408448, got 1008" in done.stderr


def test_program_speaks_tls(program, encrypted, expected) -> None:
    done = program(encrypted.address, "frames.rgb", "second.rgb", CA_FILE=encrypted.ca_file)
    assert done.returncode == 0, done.stderr
    check(done.stdout, expected)
    assert program(encrypted.address, "frames.rgb").returncode == 1


@pytest.mark.parametrize("tool", ["buf", "grpcurl"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_command_line_answers(tool, tls, workshop, triton_server, encrypted, expected) -> None:
    for name in (tool, "jq"):
        if not shutil.which(name):
            pytest.skip(f"{name} is not installed")
    write, *asks, read = blocks("sh", "Command line")
    (ask,) = (command for command in asks if command.startswith(f"{tool} "))
    ask = ask.replace("localhost:8001", encrypted.address if tls else triton_server.url)
    if tls:
        trust = f"-cacert {encrypted.ca_file}"
        ask = ask.replace("-plaintext", trust).replace("http:", "https:").replace("buf curl", f"buf curl -{trust}")
    for command in (write, ask, read):
        done = workshop.shell(command)
        assert done.returncode == 0, done.stderr
    np.testing.assert_allclose([float(value) for value in done.stdout.split()], expected[0], atol=1e-4)
