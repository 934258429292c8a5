"""Progress as a function of parts done and parts to do."""

from collections.abc import Callable

Progress = Callable[[int, int], None]


def part_of(progress: Progress | None, before: int, number: int) -> Progress:
    """The progress of one of `number` equal parts, of which `before` are done, as that of the whole."""

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(before * total + done, number * total)

    return report
