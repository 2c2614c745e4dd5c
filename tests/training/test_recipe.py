import csv
import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from reelkind.core import bundle as bundles
from reelkind.core.errors import DataError, LeakError
from reelkind.core.taxonomy.classes import CLASSES, subcategories
from reelkind.datasets.samples import read_samples
from reelkind.export.graphs.checkpoint import load_modules
from reelkind.models.backbones import build_backbone, read_state_dict
from reelkind.models.head import TemporalHead
from reelkind.training import recipe
from reelkind.training.config import Config, EvaluationConfig, parse_config
from reelkind.training.provenance import data_hash

from .tiny import SETTINGS, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


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
        logits, _ = recipe.predict(backbone, head, data / "clips" / name / "2.gif", config)
        confusion[label, logits.argmax()] += 1
    assert confusion.tolist() == bundle.metrics["val"]["confusion"]


def test_a_second_run_reads_the_cache_and_agrees(
    trained: tuple[bundles.Bundle, Path], data: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, folder = trained
    monkeypatch.setattr("reelkind.training.inputs.frames.augment_clip", None)  # nothing is left to be damaged
    monkeypatch.setattr("reelkind.training.stages.finetune", None)
    torch.manual_seed(0)
    again = recipe.run(config, data, folder / "again", folder / "cache")
    assert bundles.weights_hash(again) == bundles.weights_hash(bundle)
    assert again.metrics == bundle.metrics
    assert again.provenance["run"]["resumed"] is True


def test_a_run_says_what_it_was_made_of(trained: tuple[bundles.Bundle, Path], config: Config) -> None:
    bundle, folder = trained
    run = bundle.provenance["run"]
    stored = json.dumps(dict(bundle.config), sort_keys=True).encode()
    assert run["config_sha256"] == hashlib.sha256(stored).hexdigest()
    assert {"torch", "torchvision", "numpy", "python"} <= run["versions"].keys()
    assert {"activations", "finetune", "head", "validation", "this run"} == run["seconds"].keys()
    assert run["peak_memory_mib"] > 50
    assert (run["seed"], run["num_processes"], run["resumed"]) == (0, 1, False)
    assert bundle.metrics["collapsed"] == []
    assert not list((folder / "cache").glob("head_*"))  # only activations and fine-tuned tails stay
    assert not list((folder / "cache").glob("*_state.pt"))


def test_the_data_hash_is_that_of_contents_not_of_places(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "copy")
    sources = ("clips", "stills")
    samples, copies = read_samples(data, sources), read_samples(tmp_path / "copy", sources)
    assert data_hash(samples) == data_hash(copies[::-1])
    changed = [dataclasses.replace(copies[0], label=(copies[0].label + 1) % 4), *copies[1:]]
    assert data_hash(changed) != data_hash(samples)


def test_subcategories_are_learned_beside_the_classes(data: Path, config: Config, tmp_path: Path) -> None:
    head = dataclasses.replace(config.head, subcategory_weight=0.3)
    finer = dataclasses.replace(config, head=head, evaluation=EvaluationConfig(num_folds=0, num_bootstraps=5))
    bundle = recipe.run(finer, data, tmp_path / "finer", tmp_path / "cache")
    assert bundle.head.num_subcategories == 46
    assert bundle.subcategories_learnt == ()  # two works a class are too few
    assert bundle.metrics["subcategory"] == {
        **{"learnt": [], "min_works": 3, "temperature": 1.0},
        **{"cross_validation": {}, "val": {}},
    }
    assert "Learnt (0 of 46), each from at least 3 works: none." in (tmp_path / "finer" / "README.md").read_text()
    state = read_state_dict(bundle.path(bundles.HEAD_WEIGHTS_NAME))
    assert state["subcategory_classifier.weight"].shape == (46, 16)
    _, reloaded = load_modules(bundle)
    assert reloaded.classify_subcategories(torch.zeros(1, 16)).shape == (1, 46)


def test_what_three_works_show_is_learnt_measured_and_calibrated(data: Path, config: Config, tmp_path: Path) -> None:
    labelled = tmp_path / "data"
    shutil.copytree(data, labelled)
    manifest = labelled / "stills" / "manifest.csv"
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            kind = next(kind.name for kind in subcategories() if kind.class_name == row["class"])
            writer.writerow({**row, "subcategory": kind if row["class"] in ("gaming", "flat") else ""})
    head = dataclasses.replace(config.head, subcategory_weight=0.3)
    bundle = recipe.run(dataclasses.replace(config, head=head), labelled, tmp_path / "finer", tmp_path / "cache")
    assert bundle.subcategories_learnt == ("sandbox_voxel", "slideshow_photo_montage")
    found = bundle.metrics["subcategory"]
    assert found["learnt"] == list(bundle.subcategories_learnt)
    assert found["temperature"] == bundle.subcategory_temperature > 0
    for key, count in (("cross_validation", 4), ("val", 2)):
        assert found[key]["num_clips"] == found[key]["num_works"] == count
        assert set(found[key]["by_class"]) == {"gaming", "flat"}
        low, high = found[key]["interval_95"]
        assert 0 <= low <= found[key]["top1"] <= high <= 1
    card = (tmp_path / "finer" / "README.md").read_text()
    assert "Learnt (2 of 46), each from at least 3 works: sandbox_voxel, slideshow_photo_montage." in card
    assert "| validation, gaming | 1 | 1 |" in card


def test_subcategories_that_nothing_is_labelled_with_are_refused(data: Path, config: Config, tmp_path: Path) -> None:
    head = dataclasses.replace(config.head, subcategory_weight=0.3)
    bare = tmp_path / "data"
    shutil.copytree(data, bare)
    manifest = bare / "clips" / "manifest.csv"
    header, rows = manifest.read_text().split("\n", 1)
    manifest.write_text(f"{header}\n{re.sub(',[a-z0-9_]+$', ',my own word', rows, flags=re.MULTILINE)}")
    with pytest.raises(DataError, match=r"head.subcategory_weight = 0.3 .* column 'subcategory' .* my own word"):
        recipe.run(dataclasses.replace(config, head=head), bare, tmp_path / "out", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("name", "frozen"), [("mobilenet_v2_levels", 0), ("mobilenet_v2", 19)])
def test_all_blocks_or_none_can_be_trained(name: str, frozen: int, data: Path, config: Config, tmp_path: Path) -> None:
    changed = dataclasses.replace(
        config,
        backbone=dataclasses.replace(config.backbone, name=name, frozen_blocks=frozen, frame_size_px=32),
        finetune=dataclasses.replace(config.finetune, steps=0 if frozen else 2, layer_decay=0.9),
        evaluation=EvaluationConfig(num_folds=0, num_bootstraps=5),
    )
    bundle = recipe.run(changed, data, tmp_path / "all", tmp_path / "cache")
    assert bundle.metrics["val"]["num_clips"] == 4
    kept = np.load(next((tmp_path / "cache").glob("*_-1.npy")), mmap_mode="r")
    assert kept.dtype == (np.float16 if frozen else np.uint8)
    if not frozen:
        assert kept.shape[1:] == (32, 32, 3)


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


def test_stills_without_a_subcategory_can_be_left_out(data: Path) -> None:
    wanted = parse_config(SETTINGS).data
    every = recipe.chosen_samples(wanted, data)
    known = recipe.chosen_samples(dataclasses.replace(wanted, stills_per_subcategory=9), data)
    assert [sample for sample in every if not sample.is_still] == known  # this data set's stills have none
    assert len(every) > len(known)
