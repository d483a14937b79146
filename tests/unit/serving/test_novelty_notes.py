"""From how many unknown cells on a query is warned of."""

from __future__ import annotations

import pytest

from totalanvi.serving.outputs.novelty_notes import many_unknown_messages


@pytest.mark.parametrize(
    ("n_unknown", "n_mapped", "false_positive_rate", "many"),
    [
        (42, 1_000, 0.01, True),
        (27, 1_000, 0.01, True),
        (25, 1_000, 0.01, False),  # Chance finds as many in one of 24,000 queries.
        (20_500, 1_000_000, 0.01, True),
        (19_500, 1_000_000, 0.01, False),  # Not by chance, but less than twice as many.
        (4, 12, 0.01, True),
        (3, 12, 0.01, False),
        (1, 1, 0.01, False),
        (0, 0, 0.01, False),
        (500, 1_000, 0.4, False),
        (900, 1_000, 0.4, True),
    ],
)
def test_many_are_more_than_expected_and_than_chance(
    n_unknown: int, n_mapped: int, false_positive_rate: float, many: bool
) -> None:
    assert bool(many_unknown_messages(n_unknown, n_mapped, false_positive_rate)) == many
