import random

from reelkind.datasets.yt8m.sampling import BottomK, seeded_hash

KEYS = [f"id{i}" for i in range(500)]


def sampled(keys: list[str], size: int, seed: int) -> list[str]:
    sample = BottomK[str](size, seed)
    for key in keys:
        sample.offer(key, key)
    return sample.items()


def test_the_sample_is_the_keys_of_the_smallest_hashes() -> None:
    assert sampled(KEYS, 20, 7) == sorted(KEYS, key=lambda key: seeded_hash(key, 7))[:20]


def test_order_and_repetition_do_not_matter() -> None:
    shuffled = KEYS * 2
    random.Random(0).shuffle(shuffled)
    assert sampled(shuffled, 20, 7) == sampled(KEYS, 20, 7)


def test_another_seed_gives_another_sample() -> None:
    assert sampled(KEYS, 20, 7) != sampled(KEYS, 20, 8)


def test_few_keys_are_all_kept() -> None:
    assert set(sampled(KEYS[:5], 20, 0)) == set(KEYS[:5])
    assert sampled(KEYS, 0, 0) == []


def test_every_key_is_as_likely() -> None:
    counts = dict.fromkeys(KEYS[:50], 0)
    for seed in range(400):
        for key in sampled(KEYS[:50], 10, seed):
            counts[key] += 1
    assert sum(counts.values()) == 4000
    assert all(45 < count < 120 for count in counts.values())  # 80 +- 8 expected


def test_the_hash_is_the_same_on_every_machine() -> None:
    assert seeded_hash("SjJ3", 0) == 0xE474A459C238E65C  # printf 0:SjJ3 | b2sum -l 64
