from pathlib import Path

import pytest

from reelkind.core.errors import ConfigError
from reelkind.training.config import Config, find_config, load_config, parse_config
from reelkind.training.features_only.track_config import config_kind

CONFIGS = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.toml"))
VIDEO_CONFIGS = [path for path in CONFIGS if not config_kind(path)]


@pytest.mark.parametrize("path", VIDEO_CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads(path: Path) -> None:
    assert load_config(path).name == path.stem


def test_a_shipped_configuration_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lite").mkdir()  # a folder, as that of a bundle, is no configuration
    assert load_config(find_config(Path("lite"))).name == "lite"
    assert find_config(Path("lite.toml")) == Path("lite.toml"), "a file that is not there is not replaced"
    (tmp_path / "lite2").write_text("seed = 7\n")
    assert load_config(find_config(Path("lite2"))).seed == 7
    with pytest.raises(ConfigError, match=r"no configuration ligth: name a TOML file, or one of clip, .*lite, lite2"):
        find_config(Path("ligth"))


def test_defaults_need_no_file() -> None:
    assert parse_config({}) == Config()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"sede": 1}, "unknown key sede"),
        ({"head": {"widht": 64}}, "unknown key head.widht"),
        ({"head": 3}, "head must be a table"),
        ({"seed": "zero"}, "seed must be int"),
        ({"data": {"optional": 1}}, "data.optional must be bool"),
        ({"data": {"sources": "clips"}}, "data.sources must be a list"),
        ({"augment": {"num_variants": -1}}, "num_variants must not be negative"),
        ({"name": "two words"}, "name 'two words' must be letters"),
        ({"name": "tta"}, "name 'tta' is taken"),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda, got 'tpu'"),
        ({"checkpoint_steps": 0}, "checkpoint_steps must be 1 or more"),
        (
            {"finetune": {"precision": "half"}},
            "finetune.precision must be one of float32, bfloat16, float16, got 'half'",
        ),
        ({"finetune": {"layer_decay": 0.0}}, r"finetune.layer_decay must lie in \(0, 1\]"),
        ({"head": {"num_cycles": 0}}, "head.num_cycles must be 1 or more"),
        ({"head": {"width": 20}}, "head.width must be a multiple of 2 x head.num_attention_heads"),
        ({"head": {"stride_jitter": 1.0}}, "head.stride_jitter must lie in"),
        ({"head": {"batch_size": 1}}, "head.batch_size must be 2 or more"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_refused(raw: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(raw)


def test_overrides_win_and_nest(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text("seed = 1\n[head]\nwidth = 64\n")
    config = load_config(path, ["head.width=32", "head.dropout=1", "backbone.weights=hub", 'data.sources=["a"]'])
    assert (config.seed, config.head.width, config.head.dropout) == (1, 32, 1.0)
    assert (config.backbone.weights, config.data.sources) == ("hub", ("a",))


@pytest.mark.parametrize("override", ["head.width", "seed.x=1", "head.widht=3"])
def test_a_bad_override_is_refused(override: str, tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text("seed = 1\n")
    with pytest.raises(ConfigError):
        load_config(path, [override])


def test_notes_of_the_file_do_not_describe_another_run(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('notes = "measured with these settings"\n')
    assert load_config(path).notes == "measured with these settings"
    assert load_config(path, ["seed=1"]).notes == ""
    assert load_config(path, ["seed=1", "notes=mine"]).notes == "mine"


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration"):
        load_config(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("seed = = 1")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(broken)
    broken.write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(broken)
