"""In this process, one task after another."""

from collections.abc import Callable, Sequence

from energylens.core.ports import Ending, Launcher, Task
from energylens.run.launch import Means, launcher


@launcher("inline")
def inline(means: Means) -> Launcher:
    """Tasks one after another; what one raises is raised."""

    def launch(tasks: Sequence[Task], *, ended: Callable[[Task, Ending], None]) -> None:
        from energylens.run.execute import execute

        for task in tasks:
            means.say(f"task {task.folder.name}")
            execute(
                task.study, task.options, task.folder, progress=means.progress, say=means.say
            )  # fmt: skip
            ended(task, Ending(code=0))

    return launch
