"""Progress as a function of finished and total parts."""

from collections.abc import Callable

Progress = Callable[[int, int], None]


def part_of(progress: Progress | None, before: int, number: int) -> Progress:
    """Progress of the whole from that of one of `number` equal parts, of which `before` are finished."""

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(before * total + done, number * total)

    return report
