"""What the original published, beside which its data are read: figures of its own reports.

Source: github.com/Javihaus/ndt, experiments/mechanistic_interpretability (removed on 2025-11-20):
results/step1_2/jump_characterization_summary.json, results/step1_3/critical_periods_detailed.csv,
results/integrated_report/integrated_report.json and MASTER_SUMMARY.md.
"""

from dataclasses import dataclass

SOURCE = "Javihaus/ndt, experiments/mechanistic_interpretability"

# Of each run: jumps, critical steps, transitions, coordinated periods.
_RUNS = """
cnn_deep_fashion_mnist 27 180 168 26
cnn_deep_mnist 45 158 171 30
cnn_deep_qmnist 36 160 149 24
cnn_medium_fashion_mnist 20 128 126 34
cnn_medium_mnist 28 121 137 30
cnn_medium_qmnist 31 110 124 27
cnn_shallow_fashion_mnist 32 99 111 24
cnn_shallow_mnist 49 88 92 27
cnn_shallow_qmnist 29 114 80 37
mlp_deep_10_ag_news 67 200 196 6
mlp_deep_10_fashion_mnist 43 261 344 15
mlp_deep_10_mnist 53 246 240 15
mlp_deep_10_qmnist 58 252 313 17
mlp_medium_5_ag_news 45 62 43 0
mlp_medium_5_fashion_mnist 18 131 118 10
mlp_medium_5_mnist 18 102 131 9
mlp_medium_5_qmnist 21 160 182 14
mlp_medium_ag_news 21 39 40 0
mlp_medium_fashion_mnist 9 74 86 7
mlp_medium_mnist 11 122 76 7
mlp_medium_qmnist 10 104 150 16
mlp_narrow_ag_news 35 44 40 0
mlp_narrow_fashion_mnist 16 73 104 14
mlp_narrow_mnist 18 68 94 12
mlp_narrow_qmnist 24 136 105 18
mlp_shallow_2_ag_news 31 31 4 0
mlp_shallow_2_fashion_mnist 6 54 93 8
mlp_shallow_2_mnist 7 35 68 7
mlp_shallow_2_qmnist 7 58 74 13
mlp_verydeep_15_ag_news 210 388 439 27
mlp_verydeep_15_fashion_mnist 79 372 406 17
mlp_verydeep_15_mnist 85 413 399 18
mlp_verydeep_15_qmnist 105 517 567 29
mlp_verywide_ag_news 16 39 40 0
mlp_verywide_fashion_mnist 6 76 125 5
mlp_verywide_mnist 13 103 81 7
mlp_verywide_qmnist 8 136 91 16
mlp_wide_ag_news 30 51 70 0
mlp_wide_fashion_mnist 7 58 84 4
mlp_wide_mnist 7 114 109 6
mlp_wide_qmnist 12 145 81 14
transformer_deep_ag_news 49 519 519 25
transformer_deep_fashion_mnist 166 557 554 20
transformer_deep_mnist 174 549 556 19
transformer_deep_qmnist 157 560 560 25
transformer_medium_ag_news 85 359 360 21
transformer_medium_fashion_mnist 131 388 396 30
transformer_medium_mnist 120 386 393 24
transformer_medium_qmnist 114 389 384 25
transformer_narrow_fashion_mnist 159 392 400 23
transformer_narrow_mnist 157 397 395 30
transformer_shallow_ag_news 73 200 200 26
transformer_shallow_fashion_mnist 89 232 229 33
transformer_shallow_mnist 58 219 237 29
transformer_shallow_qmnist 66 226 229 27
"""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the original's tables have of one run."""

    jumps: int
    critical_steps: int
    transitions: int
    coordinated: int


PUBLISHED: dict[str, Published] = {
    name: Published(
        jumps=int(jumps), critical_steps=int(critical), transitions=int(turns),
        coordinated=int(together),
    )
    for name, jumps, critical, turns, together in map(str.split, _RUNS.strip().splitlines())
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A figure of the original's reports, about all 55 runs.

    Attributes:
        value: As it stands there.
        words: What it is said to be.
        file: Where it stands.
    """

    value: float | int
    words: str
    file: str


_JUMPS, _REPORT = "jump_characterization_summary.json", "integrated_report.json"
_SUMMARY, _PERIODS = "MASTER_SUMMARY.md", "critical_periods_summary.json"
RUNS = len(PUBLISHED)
CLAIMS: dict[str, Claim] = {
    "jumps": Claim(value=2991, words="2,991 jumps", file=_JUMPS),
    "jumps.transformer": Claim(value=1598, words="1,598 jumps of transformers", file=_REPORT),
    "jumps.cnn": Claim(value=297, words="297 jumps of CNNs", file=_REPORT),
    "jumps.mlp": Claim(value=1096, words="1,096 jumps of MLPs", file=_REPORT),
    "early_share": Claim(
        value=2491 / 2991, words="83.3 % of jumps in the first tenth of training", file=_REPORT
    ),
    "early_share_cut": Claim(value=2241 / 2991, words="74.9 % of jumps early", file=_REPORT),
    "late_share": Claim(value=0.0, words="no jump after half of training", file=_REPORT),
    "quiet_at_once": Claim(value=1.0, words="all layers stable at step 0", file=_REPORT),
    "simultaneous": Claim(
        value=1.0, words="layers converge simultaneously in 55 of 55 runs", file=_SUMMARY
    ),
    "linear2_share": Claim(
        value=1.0, words="all jumps of transformers in output projections", file=_SUMMARY
    ),
    "first_layer_share": Claim(
        value=23 / 45, words="51 % of jumps of CNNs in the first layer", file=_SUMMARY
    ),
    "cnn_mlp_ratio": Claim(value=2.5, words="CNNs jump 2.5 times as often as MLPs", file=_REPORT),
    "mean_coordination": Claim(
        value=0.06488158697363243, words="layers are critical together", file=_PERIODS
    ),
    "strong_share": Claim(
        value=49 / 55, words="strong coordination in 49 of 55 runs", file=_REPORT
    ),
    "loss_falls": Claim(
        value=0.5680585608540034, words="a loss correlation of 56.8 %", file=_PERIODS
    ),
    "early_loss_falls": Claim(
        value=0.6617063492063492, words="66.2 % of early jumps with loss improvement",
        file=_REPORT,
    ),
    "changed_share": Claim(
        value=0.0, words="dimensionality is set by the architecture and not learned",
        file=_SUMMARY,
    ),
    "types": Claim(value=5, words="five types of jumps", file=_JUMPS),
    "checkpoints": Claim(value=34, words="34 checkpoint steps", file="checkpoint_plan.json"),
}  # fmt: skip
