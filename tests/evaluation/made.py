"""Predictions of made-up members, so that tests know what is true of them."""

import numpy as np

from reelkind.evaluation.measures.predictions import Predictions


def made_predictions(
    member: str = "one",
    num_works: int = 40,
    clips_per_work: int = 3,
    skill: float = 2.0,
    seed: int = 0,
    num_views: int = 1,
) -> Predictions:
    """Logits whose true class stands out by ``skill``; the same seed gives the same labels for every member."""
    count = num_works * clips_per_work
    labels = np.repeat(np.arange(num_works) % 4, clips_per_work)
    rng = np.random.default_rng((seed, sum(member.encode())))
    logits = rng.normal(size=(count, num_views, 4))
    logits[np.arange(count), :, labels] += skill
    return Predictions(
        member=member,
        names=[f"clips/{i}.mp4" for i in range(count)],
        logits=logits,
        labels=labels,
        groups=[f"work {i // clips_per_work}" for i in range(count)],
        subcategories=["" if i % 5 else "finer" for i in range(count)],
    )
