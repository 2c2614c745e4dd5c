"""``reelkind serve --mig-uuid``: one server sees one slice."""

import os

import pytest

from reelkind.cli.main import main

SLICE = "MIG-5e2f9f1a-7f0b-5d84-9f1e-2f5f3c6f1a11"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "to be put back")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize("text", ["0", "GPU-5e2f9f1a-7f0b-5d84-9f1e-2f5f3c6f1a11", f"{SLICE},{SLICE}", "MIG-1g.10gb"])
def test_what_names_no_slice_is_refused(text: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "--mig-uuid", text])
    assert stopped.value.code == 2
    assert "nvidia-smi -L" in capsys.readouterr().err


def test_environment_that_says_otherwise_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert main(["serve", "--mig-uuid", SLICE]) == 2
    assert "$CUDA_VISIBLE_DEVICES says 0" in capsys.readouterr().err


@pytest.mark.triton
@pytest.mark.parametrize("uuid", [SLICE, "MIG-GPU-5e2f9f1a-7f0b-5d84-9f1e-2f5f3c6f1a11/7/0"])
def test_cuda_sees_the_slice_and_a_server_without_a_card_is_refused(
    uuid: str, triton_runtime: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    del triton_runtime  # skips where there is none
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", uuid)
    assert main(["serve", "--mig-uuid", uuid]) == 2
    assert os.environ["CUDA_VISIBLE_DEVICES"] == uuid
    assert "the embedded one cannot" in capsys.readouterr().err
