import shutil

import numpy as np
import pytest

from reelkind.serving.errors import ServingError
from reelkind.serving.models import canary_feeds, ensemble_configs

from . import tiny_repository


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return tiny_repository.write(tmp_path_factory.mktemp("models"))


def test_ensembles_are_found_and_others_left_out(repository):
    assert list(ensemble_configs(repository)) == ["classify"]


def test_a_repository_without_ensembles_names_its_models(tmp_path):
    folder = tiny_repository.write(tmp_path)
    shutil.rmtree(folder / "classify")
    with pytest.raises(ServingError, match=r"no ensemble in .*: it has tiny_answer, tiny_pixels$"):
        ensemble_configs(folder)


def test_folder_without_models_is_named(tmp_path):
    with pytest.raises(ServingError, match="no models in"):
        ensemble_configs(tmp_path)


def test_damaged_configuration_is_named(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.pbtxt").write_text("colour: blue")
    with pytest.raises(ServingError, match=r"config\.pbtxt is not a model configuration: .*colour"):
        ensemble_configs(tmp_path)


def test_canary_has_the_ensembles_own_size(repository):
    config = ensemble_configs(repository)["classify"]
    feeds = canary_feeds(config)
    assert {name: (array.dtype, array.shape) for name, array in feeds.items()} == {
        "frames": (np.dtype(np.uint8), (1, tiny_repository.NUM_FRAMES, 32, 32, 3))
    }
    assert canary_feeds(config, num_frames=1)["frames"].shape == (1, 1, 32, 32, 3)


def test_canary_of_features_fits_the_head(repository):
    config = ensemble_configs(repository)["classify"]
    del config.input[:]
    config.input.add(name="features", data_type="TYPE_FP32", dims=[-1, -1, 1280])
    (array,) = canary_feeds(config).values()
    assert (array.dtype, array.shape) == (np.dtype(np.float32), (1, 1, tiny_repository.NUM_FRAMES, 1280))
