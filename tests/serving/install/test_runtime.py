from pathlib import Path

import pytest

from reelkind.serving.command import server_command
from reelkind.serving.errors import ServingError
from reelkind.serving.install.environment import ServerEnvironment
from reelkind.serving.install.runtime import embedded_runtime, find_runtime
from reelkind.serving.options import ServerOptions
from reelkind.serving.ports import Addresses
from reelkind.serving.tls import ServerTls


@pytest.fixture
def container(tmp_path, monkeypatch) -> Path:
    """What NVIDIA's image looks like, with its tritonserver on PATH."""
    executable = tmp_path / "tritonserver" / "bin" / "tritonserver"
    executable.parent.mkdir(parents=True)
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    for name in ("onnxruntime", "python", "tensorrt"):
        (tmp_path / "tritonserver" / "backends" / name).mkdir(parents=True)
    monkeypatch.setenv("PATH", str(executable.parent))
    return executable


@pytest.fixture
def environment(tmp_path) -> ServerEnvironment:
    """The files of the nvidia-pytriton wheel that matter."""
    triton = tmp_path / "packages" / "pytriton" / "tritonserver"
    for name in ("bin/tritonserver", "backends/python/libtriton_python.so", "backends/python/utils.py"):
        (triton / name).parent.mkdir(parents=True, exist_ok=True)
        (triton / name).touch(mode=0o755)
    for version in ("3.9", "3.10", "3.11"):
        (triton / "python_backend_stubs" / version).mkdir(parents=True)
        (triton / "python_backend_stubs" / version / "triton_python_backend_stub").touch()
    return ServerEnvironment(tmp_path / "env", "3.11", tmp_path / "lib", tmp_path / "packages")


def command_of(runtime, scratch, bind="127.0.0.1", extras=ServerOptions()) -> list[str]:  # noqa: B008
    return server_command(
        runtime,
        Path("/models"),
        Addresses(bind, 8001, 8000, 8002, encrypted=extras.tls is not None),
        scratch=scratch,
        shm_prefix="p_",
        key="k",
        stop_timeout_s=2.5,
        extras=extras,
    )


def test_tritonserver_on_path_wins(container):
    runtime = find_runtime()
    assert runtime.executable == container
    assert runtime.backends == ("onnxruntime", "python", "tensorrt")
    assert not runtime.embedded
    assert runtime.choose_flavour() == "onnxruntime"
    assert runtime.choose_flavour("tensorrt") == "tensorrt"


def test_tritonserver_without_backends_is_named(container):
    for folder in (container.parent.parent / "backends").iterdir():
        folder.rmdir()
    assert find_runtime().backends == ()
    (container.parent.parent / "backends").rmdir()
    with pytest.raises(ServingError, match="has no backends"):
        find_runtime()


def test_embedded_runtime_has_the_python_backend_only(environment):
    runtime = embedded_runtime(environment)
    assert runtime.choose_flavour() == "python"
    with pytest.raises(ServingError, match=r"flavour tensorrt needs tritonserver's tensorrt backend, .* has: python"):
        runtime.choose_flavour("tensorrt")


def test_backend_directory_links_the_stub_of_this_python(environment, tmp_path):
    folder = embedded_runtime(environment).backend_directory(tmp_path / "scratch") / "python"
    assert sorted(path.name for path in folder.iterdir()) == [
        "libtriton_python.so",
        "triton_python_backend_stub",
        "utils.py",
    ]
    assert "python_backend_stubs/3.11" in str((folder / "triton_python_backend_stub").resolve())


def test_models_see_the_servers_environment(environment, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    variables = embedded_runtime(environment).variables()
    assert variables["PATH"] == f"{environment.folder / 'bin'}:/usr/bin"
    assert variables["LD_LIBRARY_PATH"] == str(environment.library_folder)


def test_python_without_a_stub_is_named(environment, tmp_path):
    newer = ServerEnvironment(environment.folder, "3.14", tmp_path, environment.packages_folder)
    with pytest.raises(ServingError, match=r"no Python stub for Python 3\.14 \(it has: 3\.9, 3\.10, 3\.11\)"):
        embedded_runtime(newer)


def test_missing_wheel_is_named(environment):
    (environment.tritonserver_folder / "bin" / "tritonserver").unlink()
    with pytest.raises(ServingError, match="nvidia-pytriton is missing or damaged"):
        embedded_runtime(environment)


def test_binary_that_may_not_run_is_named(environment):
    (environment.tritonserver_folder / "bin" / "tritonserver").chmod(0o644)
    with pytest.raises(ServingError, match="is not executable"):
        embedded_runtime(environment)


def test_command_guards_what_can_replace_code(environment, tmp_path):
    command = command_of(embedded_runtime(environment), tmp_path)
    assert "--grpc-restricted-protocol=model-repository,trace,logging,shared-memory:reelkind-key=k" in command
    assert "--http-restricted-api=model-repository,trace,logging,shared-memory:reelkind-key=k" in command
    assert "--exit-timeout-secs=3" in command
    assert "--disable-auto-complete-config" in command


def test_nothing_is_cached_or_traced_unless_asked_for(container, tmp_path):
    command = command_of(find_runtime(), tmp_path)
    assert not [option for option in command if option.startswith(("--cache", "--trace", "--grpc-use-ssl"))]


def test_response_cache_of_a_container_lies_beside_its_backends(container, tmp_path):
    command = command_of(find_runtime(), tmp_path, extras=ServerOptions(response_cache_bytes=2**20))
    assert {"--cache-config=local,size=1048576", f"--cache-directory={container.parent.parent / 'caches'}"} <= set(
        command
    )


def test_plain_http_stays_on_loopback_beside_encrypted_grpc(container, tmp_path):
    extras = ServerOptions(tls=ServerTls(Path("server.pem"), Path("server.key")))
    command = command_of(find_runtime(), tmp_path, bind="0.0.0.0", extras=extras)
    assert {"--grpc-address=0.0.0.0", "--http-address=127.0.0.1", "--grpc-use-ssl=true"} <= set(command)
    (http,) = [option for option in command if option.startswith("--http-restricted-api")]
    assert ",inference:" in http


@pytest.mark.parametrize(
    ("bind", "open_http", "kept"),
    [
        ("127.0.0.1", None, False),
        ("0.0.0.0", None, True),
        ("0.0.0.0", True, False),
        ("127.0.0.1", False, True),
    ],
)
def test_inference_by_http_beyond_loopback_is_for_holders_of_the_key(container, tmp_path, bind, open_http, kept):
    command = command_of(find_runtime(), tmp_path, bind=bind, extras=ServerOptions(open_http=open_http))
    (http,) = [option for option in command if option.startswith("--http-restricted-api")]
    assert (",inference:" in http) == kept


def test_containers_own_backends_are_used(container, tmp_path):
    command = command_of(find_runtime(), tmp_path)
    assert f"--backend-directory={container.parent.parent / 'backends'}" in command
    assert not [option for option in command if "gpu-metrics" in option]
