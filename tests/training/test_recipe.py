import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reelkind.cli.main import main
from reelkind.core import bundle as bundles
from reelkind.core.taxonomy import CLASSES
from reelkind.training import recipe
from reelkind.training.config import Config, parse_config
from reelkind.training.errors import DataError, LeakError
from reelkind.training.models import TemporalHead, build_backbone, read_state_dict

COLOURS = {"animation": (220, 40, 40), "gaming": (40, 200, 40), "natural": (40, 60, 220), "flat": (240, 240, 240)}
SETTINGS = {
    "name": "tiny",
    "num_frames": 2,
    "num_threads": 1,
    "data": {"sources": ["clips", "stills"]},
    "backbone": {"weights": "", "frame_size_px": 64, "name": "mobilenet_v2_levels"},
    "augment": {"num_variants": 1, "frames_per_clip": 2, "clean_frames_per_clip": 2, "source_size_px": 80},
    "finetune": {"steps": 2, "batch_size": 4, "warmup_steps": 1},
    "head": {"width": 16, "num_layers": 1, "num_frames": 2, "steps": 3, "batch_size": 4, "warmup_steps": 1},
    "evaluation": {"num_folds": 2, "num_bootstraps": 20},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two works a class as stills, two as clips (GIFs), one clip a class for validation."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for source, splits in (("clips", ("train", "train", "val")), ("stills", ("train", "train"))):
        rows = []
        for name in CLASSES:
            for i, split in enumerate(splits):
                suffix = "gif" if source == "clips" else "jpg"
                path = root / source / name / f"{i}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                pictures = [
                    Image.fromarray((COLOURS[name] + rng.integers(-40, 15, (48, 64, 3))).clip(0, 255).astype(np.uint8))
                    for _ in range(3)
                ]
                pictures[0].save(path, **({"save_all": True, "append_images": pictures[1:]} if suffix == "gif" else {}))
                work = f"{source} {name} {split} {i}"
                rows.append({"path": f"{name}/{path.name}", "class": name, "work": work, "split": split})
        with (root / source / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return root


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(SETTINGS)


@pytest.fixture(scope="module")
def trained(data: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[bundles.Bundle, Path]:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    return recipe.run(config, data, folder / "tiny", folder / "cache"), folder


def test_a_bundle_says_what_it_is(trained: tuple[bundles.Bundle, Path], config: Config) -> None:
    bundle, folder = trained
    assert (bundle.name, bundle.num_frames, bundle.backbone.frame_size_px) == ("tiny", 2, 64)
    assert bundle.metrics["val"]["num_clips"] == 4
    assert bundle.metrics["cross_validation"]["num_clips"] == 8
    assert bundle.provenance["training_data"] == {
        "works": 16,
        "files": {source: dict.fromkeys(CLASSES, 2) for source in ("clips", "stills")},
    }
    assert bundle.config["finetune"]["steps"] == config.finetune.steps
    card = (folder / "tiny" / "README.md").read_text()
    assert "| validation, never trained on | 4 | 4 |" in card
    assert str(folder) not in card + (folder / "tiny" / "bundle.json").read_text()


def test_metrics_are_those_of_the_stored_weights(
    trained: tuple[bundles.Bundle, Path], data: Path, config: Config
) -> None:
    bundle, _ = trained
    backbone = build_backbone(bundle.backbone.name, bundle.path(bundles.BACKBONE_WEIGHTS_NAME))
    head = TemporalHead(bundle.head).eval()
    state = read_state_dict(bundle.path(bundles.HEAD_WEIGHTS_NAME))
    head.load_state_dict(state)
    assert state["projection.weight"].dtype == torch.float16
    confusion = np.zeros((4, 4), int)
    for label, name in enumerate(CLASSES):
        logits = recipe.predict(backbone, head, data / "clips" / name / "2.gif", config)
        confusion[label, logits.argmax()] += 1
    assert confusion.tolist() == bundle.metrics["val"]["confusion"]


def test_a_second_run_reads_the_cache_and_agrees(
    trained: tuple[bundles.Bundle, Path], data: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, folder = trained
    monkeypatch.setattr("reelkind.training.features.augment_clip", None)  # nothing is left to be damaged
    monkeypatch.setattr("reelkind.training.recipe.finetune", None)
    torch.manual_seed(0)
    again = recipe.run(config, data, folder / "again", folder / "cache")
    assert bundles.weights_hash(again) == bundles.weights_hash(bundle)
    assert again.metrics == bundle.metrics


def test_the_command_prints_the_metrics(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text('num_frames = 1\n[data]\nsources = ["clips"]\n[backbone]\nweights = ""\nframe_size_px = 32\n')
    overrides = ["name=tiny", "augment.num_variants=1", "finetune.steps=0", "head.steps=2", "head.width=16"]
    flags = [part for override in [*overrides, "evaluation.num_folds=0"] for part in ("--set", override)]
    out = tmp_path / "out"
    status = main(["train", str(path), "--data", str(data), "--out", str(out), "--cache", str(tmp_path), *flags])
    printed = json.loads(capsys.readouterr().out)
    assert status == 0
    assert printed["metrics"] == bundles.load(out).metrics
    assert printed["temperature"] == 1.0


def test_a_leak_is_refused_before_anything_is_computed(data: Path, config: Config, tmp_path: Path) -> None:
    leaky = tmp_path / "data"
    for source in ("clips", "stills"):
        (leaky / source).mkdir(parents=True)
        for name in CLASSES:
            (leaky / source / name).symlink_to(data / source / name)
        (leaky / source / "manifest.csv").write_text((data / source / "manifest.csv").read_text())
    with (leaky / "stills" / "manifest.csv").open("a") as file:
        file.write("flat/../../clips/flat/2.gif,flat,some other work,train\n")
    with pytest.raises(LeakError, match="same file"):
        recipe.run(config, leaky, tmp_path / "out", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_missing_data_and_weights_are_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no .*manifest"):
        recipe.run(Config(), tmp_path, tmp_path / "out", tmp_path / "cache")
    config = parse_config({**SETTINGS, "backbone": {"weights": "none.safetensors"}})
    with pytest.raises(DataError, match="no starting weights"):
        recipe.run(config, data, tmp_path / "out", tmp_path / "cache")
