import torch

from energylens.dynamics.original_plan import OriginalJump, checkpoint_steps, original_plan


def jump(step: int, magnitude: float, cluster: int, layer: str = "fc") -> OriginalJump:
    return OriginalJump(step=step, phase=step / 2000, magnitude=magnitude, layer=layer,
                        cluster=cluster)  # fmt: skip


def planned(jumps: list[OriginalJump]) -> list[tuple[str, int]]:
    generator = torch.Generator().manual_seed(0)
    return [(one.kind[:6], one.jump.step) for one in original_plan(jumps, generator)]


def test_without_its_clusters_the_earliest_latest_and_middle_are_taken() -> None:
    jumps = [jump(at, 1.0, 0) for at in (0, 0, 1, 3, 4)]
    assert planned(jumps) == [
        ("Type 5", 0), ("Type 5", 0), ("Type 3", 1), ("Type 4", 3), ("Type 4", 4),
    ]  # fmt: skip
    plan = original_plan(jumps, torch.Generator())
    assert checkpoint_steps(plan) == [0, 1, 3, 4, 10, 11, 13, 14]


def test_the_largest_of_its_clusters_are_taken_and_one_at_random() -> None:
    jumps = [
        *(jump(10 * k, float(k), 4) for k in range(1, 6)),
        *(jump(200 + k, float(k), 3) for k in range(3)), jump(150, 9.0, 2), jump(5, 99.0, 1),
    ]  # fmt: skip
    assert planned(jumps) == [
        ("Type 5", 40), ("Type 5", 50), ("Type 3", 150), ("Type 4", 201), ("Type 4", 202),
    ]  # fmt: skip


def test_the_random_one_is_that_of_the_seed() -> None:
    jumps = [jump(at, 1.0, 2) for at in range(60)]

    def middle(seed: int) -> int:
        plan = original_plan(jumps, torch.Generator().manual_seed(seed))
        return next(one.jump.step for one in plan if one.kind.startswith("Type 3"))

    assert middle(1) == middle(1)
    assert len({middle(seed) for seed in range(20)}) > 5


def test_no_jump_no_plan() -> None:
    assert original_plan([], torch.Generator()) == ()
