"""The videos that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

_ABOUT = {
    "animation_cartoon": "a drawn walk through hills",
    "flat_slides": "three slides of a talk",
    "gaming_megaglest": "a strategy game; © the MegaGlest Team, CC BY-SA 3.0",
    "natural_handheld": "a cup of coffee, filmed by hand; photograph by Rachel Michetti, CC0",
}


def samples() -> dict[str, Path]:
    """Name -> file, sorted; empty where they were not installed."""
    from reelkind import samples as package

    folder = Path(package.__file__).parent
    return {path.stem: path for path in sorted(folder.glob("*.mp4"))}


def about(name: str) -> str:
    """What a sample shows and who made it."""
    return _ABOUT.get(name, "")
