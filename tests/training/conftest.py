from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Models this small only lose by being spread over cores, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
