"""reelkind.open: the server that is there, or one for as long as it is wanted."""

import subprocess
import sys
from pathlib import Path

import pytest

import reelkind
from reelkind.core.bundle import Bundle
from reelkind.deployment import opening
from reelkind.serving.server import TritonServer

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.mark.triton
def test_a_server_named_is_asked(triton_server: TritonServer) -> None:
    with reelkind.open(triton_server.url) as model:
        answers = list(model.many(sorted(SAMPLES.glob("*.mp4"))))
        assert [answer.path for answer in answers] == [str(path) for path in sorted(SAMPLES.glob("*.mp4"))]
        assert model(SAMPLES / "flat_slides.mp4").label == "flat"


@pytest.mark.triton
def test_a_bundle_is_served_until_the_model_is_closed(served_bundle: Bundle) -> None:
    said: list[str] = []
    model = reelkind.open(bundle=served_bundle.path(), progress=said.append)
    assert model(SAMPLES / "flat_slides.mp4").label == "flat"
    url = model.client.url
    model.close()
    with reelkind.Client(url, retry_s=0, timeout_s=5) as client, pytest.raises(reelkind.ReelkindError, match=url):
        client.server_info()


def test_a_member_that_the_bundles_have_not_is_said_before_a_server_starts(served_bundle: Bundle) -> None:
    with pytest.raises(reelkind.ReelkindError, match="has only lite, not dice"):
        reelkind.open(bundle=[served_bundle.path()], member="dice")


def test_encryption_needs_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(opening.URL_VARIABLE, raising=False)
    with pytest.raises(reelkind.ReelkindError, match="name it with --url"):
        reelkind.open(tls=True)


def test_the_package_says_its_version_and_what_it_has() -> None:
    command = [sys.executable, "-m", "reelkind", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"reelkind {reelkind.__version__}"
    assert {"open", "Client", "__version__"} <= set(dir(reelkind))
    with pytest.raises(AttributeError, match="no attribute 'shut'"):
        reelkind.shut  # noqa: B018


def test_without_a_command_the_help_is_shown() -> None:
    done = subprocess.run([sys.executable, "-m", "reelkind"], capture_output=True, text=True, check=True)
    assert "classify" in done.stdout
