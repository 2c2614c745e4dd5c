import json
from pathlib import Path

import pytest
from training.tiny import overrides, write_data

from reelkind.cli.main import main
from reelkind.core import bundle as bundles

QUICK = {
    "name": "tiny",
    "num_frames": 1,
    "num_threads": 1,
    "data": {"sources": ["clips"]},
    "backbone": {"name": "mobilenet_v2", "weights": "", "frame_size_px": 32, "frozen_blocks": 18},
    "augment": {"num_variants": 1},
    "finetune": {"steps": 0},
    "head": {"steps": 2, "width": 16, "num_layers": 1},
    "evaluation": {"num_folds": 0, "num_bootstraps": 10},
}


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """``reelkind train`` of next to nothing, into ``tmp_path / "out"``."""
    (tmp_path / "any.toml").write_text("seed = 1\n")
    folders = ["--data", str(write_data(tmp_path / "data")), "--out", str(tmp_path / "out"), "--cache", str(tmp_path)]
    return ["train", str(tmp_path / "any.toml"), *folders, *overrides(QUICK)]


def test_train_prints_metrics_and_refuses_to_overwrite(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--json"]) == 0
    printed, bundle = json.loads(capsys.readouterr().out), bundles.load(tmp_path / "out")
    assert printed["metrics"] == bundle.metrics
    assert printed["run"] == bundle.provenance["run"]
    assert printed["temperature"] == 1.0

    assert main(arguments) == 1
    assert "holds a bundle already: choose another --out, or --overwrite it" in capsys.readouterr().err

    assert main([*arguments, "--overwrite"]) == 0
    summary = capsys.readouterr().out
    assert "validation     4 clips of 4 works: accuracy" in summary
    assert "peak memory" in summary
    assert bundles.weights_hash(bundles.load(tmp_path / "out")) == bundles.weights_hash(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--set", "backbone.name=vgg"], "unknown backbone 'vgg'"),
        (["--set", "backbone.frozen_blocks=20"], "20 frozen blocks, but the backbone has 19"),
        (["--set", "head.width=20"], "head.width must be a multiple"),
        (["--set", "head.learning_rat=1"], "unknown key head.learning_rat"),
        (["--data", "nowhere"], "nowhere"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_is_named_in_one_line(
    arguments: list[str], change: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *change]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("reelkind: ")]
    assert len(said) == 1
    assert message in said[0]
    assert not (tmp_path / "out").exists()
