from energylens.report.comparison import lines
from energylens.results.compare import compare
from energylens.results.record import Control, Estimate, Summary


def summary(shift, passed=True):
    control = Control(label="Noise", value=0, expected=0, passed=passed, sentence="…")
    figures = {
        "near": Estimate(1.0 + shift / 10, "nats", low=0.8, high=1.2),
        "far": Estimate(1.0 + shift, "nats", low=0.9 + shift, high=1.1 + shift),
        "bare": Estimate(3.0 + shift, "nats"),
        "lost": Estimate(float("nan"), "share"),
    }
    if shift:
        figures["new"] = Estimate(1.0, "nats")
    return Summary(study="s", subject="model", finding="…", figures=figures,
                   controls={"noise": control})  # fmt: skip


def shown(first, second):
    found = compare(first, second, {"options": {"seed": 0}}, {"options": {"seed": 1}})
    return "\n".join(lines(found, ("runs/a", "runs/b")))


def test_what_differs_comes_first_with_its_interval():
    text = shown(summary(0.0), summary(0.5, passed=False))
    assert "first   runs/a: model" in text and "seed: 0 → 1" in text
    assert "1 of 2 figures differ by more than their intervals allow; .1 would by chance" in text
    (row,) = [line for line in text.splitlines() if line.startswith("  far")]
    assert "+.50 [+.36, +.64]" in row and "1 [.90, 1.10]" in row
    assert "1 differ and have no interval" in text and "1 agree within their intervals" in text
    assert "control Noise: passed → failed" in text and "only in the second: new" in text
    assert "  near" not in text
    assert row.endswith("nats")
    assert text.count("lost") == 1 and "undefined in one or both: lost" in text


def test_equal_runs_have_nothing_to_show():
    text = shown(summary(0.0), summary(0.0))
    assert "0 of 2 figures differ" in text and "figure  " not in text and "only in" not in text
