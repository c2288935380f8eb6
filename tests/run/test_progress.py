"""Progress is quiet where nobody watches, and tells the time left where somebody does."""

from energylens.core.ports import Progress
from energylens.run.progress import Bars, Lines, progress_on_stderr


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(steps: int, seconds_each: float) -> list[str]:
    told: list[str] = []
    clock = Clock()
    with Lines(told.append, clock=clock).task("training", steps, "steps") as advance:
        for _ in range(steps):
            clock.now += seconds_each
            advance(1)
    return told


def test_a_short_stage_is_one_line():
    assert lines_of(1000, 0.001) == ["training: 1,000 steps in 1.0 s"]


def test_a_long_stage_tells_the_time_left_every_tenth_at_most():
    lines = lines_of(1000, 1.0)
    assert len(lines) <= 1000 / 30 + 10
    assert lines[0] == "training: 30 of 1,000 steps, about 16 min 10 s left"
    assert lines[-1] == "training: 1,000 steps in 16 min 40 s"


def test_a_stage_of_a_minute_is_told_in_tenths():
    assert len(lines_of(600, 0.1)) == 10


def test_a_stage_without_steps_ends_in_words():
    assert lines_of(0, 1.0) == ["training: 0 steps in 0.0 s"]


def test_a_stream_that_is_no_terminal_gets_lines(capsys):
    lines = progress_on_stderr()
    with lines.task("reading", 2, "files") as advance:
        advance(2)
    assert capsys.readouterr().err == "reading: 2 files in 0.0 s\n"
    assert isinstance(lines, Lines)
    assert isinstance(lines, Progress) and isinstance(Bars(), Progress)


def test_bars_may_lie_within_bars(capsys):
    bars = Bars()
    with bars.task("outer", 2) as outer:
        for _ in range(2):
            with bars.task("inner", 3, "steps") as inner:
                inner(3)
            outer(1)
    assert bars._live is None
    with bars.task("again", 1) as again:
        again(1)
    assert "outer" in capsys.readouterr().err
