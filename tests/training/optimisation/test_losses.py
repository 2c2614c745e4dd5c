import numpy as np
import pytest
import torch

from reelkind.training.optimisation.losses import focal_loss, mix, smooth_targets


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.5])
def test_focal_loss_agrees_with_numpy(gamma: float) -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(6, 4)), rng.dirichlet(np.ones(4), size=6)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -(targets * (1 - probabilities) ** gamma * np.log(probabilities)).sum(axis=1).mean()
    assert focal_loss(torch.tensor(logits), torch.tensor(targets), gamma).item() == pytest.approx(expected, rel=1e-6)


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    ours = focal_loss(logits, smooth_targets(labels, 4, 0.1))
    assert torch.allclose(ours, torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))


def test_focus_plays_down_what_is_certain() -> None:
    target = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    sure, unsure = torch.tensor([[4.0, 0, 0, 0]]), torch.tensor([[0.0, 0, 0, 0]])

    def share(gamma: float) -> float:
        return (focal_loss(sure, target, gamma) / focal_loss(unsure, target, gamma)).item()

    assert share(2.0) < share(0.0) / 10


def test_smooth_targets_sum_to_one_and_keep_their_class() -> None:
    targets = smooth_targets(torch.tensor([2, 0]), 4, 0.2)
    assert torch.allclose(targets.sum(dim=1), torch.ones(2))
    assert targets[0].tolist() == pytest.approx([0.05, 0.05, 0.85, 0.05])


def test_mixing_mixes_inputs_and_targets_alike() -> None:
    inputs, targets = torch.tensor([[0.0], [1.0]]), torch.eye(2)
    mixed, soft = mix((inputs, targets), 0.75, torch.tensor([1, 0]))
    assert mixed.flatten().tolist() == [0.25, 0.75]
    assert soft.tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_mixing_with_an_unknown_label_leaves_the_known_share_of_the_loss() -> None:
    targets, logits = smooth_targets(torch.tensor([1, -1, 2, -1]), 4, 0.1), torch.randn(4, 4, requires_grad=True)
    (mixed,) = mix((targets,), 0.75, torch.tensor([1, 0, 0, 3]))
    assert torch.allclose(mixed[0], 0.75 * targets[0])  # known with unknown
    assert torch.allclose(mixed[1], 0.25 * targets[0])  # unknown with known
    assert torch.allclose(mixed[2], 0.75 * targets[2] + 0.25 * targets[0])
    assert (mixed[3] == 0).all()
    loss = focal_loss(logits, mixed)
    each = [focal_loss(logits[[i]], targets[[j]]) for i, j in ((0, 0), (1, 0), (2, 2), (2, 0))]
    assert torch.allclose(loss, (0.75 * each[0] + 0.25 * each[1] + 0.75 * each[2] + 0.25 * each[3]) / 4)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[3] == 0).all()


def test_unknown_labels_cost_nothing() -> None:
    targets = smooth_targets(torch.tensor([1, -1]), 4, 0.1)
    assert targets[1].tolist() == [0, 0, 0, 0]
    logits = torch.randn(2, 4, requires_grad=True)
    focal_loss(logits, targets, 2.0).backward()
    assert logits.grad is not None
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1].abs().sum() == 0
