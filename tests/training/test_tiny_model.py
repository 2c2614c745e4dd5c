"""A tiny model learns four kinds of made pictures and tells them on works it never saw."""

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from safetensors.torch import save_file
from torch import nn
from videos import write_video

from reelkind.core.taxonomy.classes import CLASSES
from reelkind.models.backbones import build_backbone
from reelkind.training import recipe
from reelkind.training.config import parse_config

WIDTH_PX, HEIGHT_PX = 96, 64
NUM_WORKS = {"train": 24, "val": 6}


def picture(name: str, work: int, index: int) -> np.ndarray:
    """Frame ``index`` of a made work, uint8 RGB [H, W, 3]."""
    rng = np.random.default_rng([CLASSES.index(name), work])
    if name == "natural":  # soft shapes, muted colours, sensor noise
        scene = Image.fromarray(rng.integers(0, 256, (HEIGHT_PX, 2 * WIDTH_PX, 3), dtype=np.uint8))
        soft = np.asarray(scene.filter(ImageFilter.GaussianBlur(5)), np.float32)[:, 2 * index : 2 * index + WIDTH_PX]
        soft = (soft - soft.mean()) * 4 + rng.uniform(80, 160)
        return (soft + np.random.default_rng([work, index]).normal(0, 9, soft.shape)).clip(0, 255).astype(np.uint8)
    if name == "gaming":  # noisy dark scene, bright bars and a cross in fixed places
        canvas = Image.fromarray(rng.integers(0, 90, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8))
        draw = ImageDraw.Draw(canvas)
        draw.rectangle((4, 56, 10 + int(rng.integers(30)), 60), fill=(220, 30, 30))
        draw.rectangle((70, 4, 92, 20), outline=(250, 250, 250), fill=(20, 90, 40))
        draw.line((48, 26, 48, 38), fill=(255, 255, 255))
        draw.line((42, 32, 54, 32), fill=(255, 255, 255))
        return np.asarray(canvas)
    flat = name == "flat"
    canvas = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), "white" if flat else tuple(rng.integers(60, 256, 3).tolist()))
    draw = ImageDraw.Draw(canvas)
    if flat:  # lines of text on white
        for row in range(6, HEIGHT_PX - 6, 10):
            draw.text((6, row - 4), "".join(rng.choice(list("abcdehknosuv "), 14)), fill="black")
    else:  # saturated shapes with outlines that move
        for _ in range(6):
            x, y, size = rng.integers(-10, 90) + 2 * index, rng.integers(-10, 60), rng.integers(14, 40)
            box = (int(x), int(y), int(x + size), int(y + size))
            draw.ellipse(box, fill=tuple(rng.choice([0, 90, 255], 3).tolist()), outline="black", width=2)
    return np.asarray(canvas)


def write_works(root: Path) -> Path:
    rows = []
    for name in CLASSES:
        works = [(split, work) for split, count in NUM_WORKS.items() for work in range(count)]
        for number, (split, _) in enumerate(works):
            path = root / "clips" / f"{name}_{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)

            def draw(index: int, width: int, height: int, name: str = name, number: int = number) -> np.ndarray:
                return picture(name, number, index)

            write_video(path, 4, size_px=(WIDTH_PX, HEIGHT_PX), picture=draw)
            rows.append({"path": path.name, "class": name, "work": f"made {name} {number:03d}", "split": split})
    with (root / "clips" / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def write_random_weights(path: Path) -> Path:
    """A random backbone whose batch norms have seen other works; with their initial statistics deep features vanish."""
    torch.manual_seed(0)
    pictures = np.stack([picture(name, work, 0) for name in CLASSES for work in range(100, 108)])
    frames = torch.from_numpy(pictures[:, :, 16:80]).permute(0, 3, 1, 2)  # [32, 3, 64, 64]
    backbone = build_backbone("mobilenet_v2_levels").train()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # plain average instead of a moving one
    with torch.no_grad():
        backbone(frames)
    save_file(backbone.state_dict(), path)
    return path


def test_a_tiny_model_tells_made_works_it_never_saw(tmp_path: Path) -> None:
    weights = write_random_weights(tmp_path / "random.safetensors")
    config = parse_config(
        {
            "name": "tiny",
            "num_frames": 2,
            "num_threads": 1,
            "data": {"sources": ["clips"]},
            "backbone": {
                "name": "mobilenet_v2_levels",
                "weights": str(weights),
                "frame_size_px": 64,
                "frozen_blocks": 0,
            },
            "augment": {"num_variants": 1, "frames_per_clip": 2, "clean_frames_per_clip": 2, "source_size_px": 80},
            "finetune": {
                "steps": 90,
                "batch_size": 16,
                "learning_rate": 2e-3,
                "pull": 0.0,
                "blend": 1.0,
                "ema_decay": 0.9,
            },
            "head": {
                "width": 16,
                "num_layers": 1,
                "num_frames": 2,
                "steps": 200,
                "batch_size": 16,
                "learning_rate": 3e-3,
                "num_variants": 1,
            },
            "evaluation": {"num_folds": 0, "num_bootstraps": 20},
        }
    )
    bundle = recipe.run(config, write_works(tmp_path / "data"), tmp_path / "out", tmp_path / "cache")
    assert bundle.metrics["val"]["num_works"] == 24
    assert bundle.metrics["val"]["accuracy"] > 0.9
    assert bundle.metrics["collapsed"] == []
