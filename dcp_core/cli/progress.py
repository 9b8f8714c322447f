"""The progress bar of the commands, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from dcp_core.making import Making, Progress, finish

C = TypeVar("C")
LAYOUT = "{percentage:3.0f}% |{bar}| {elapsed}<{remaining} {postfix}"


@contextmanager
def progress_bar(total: float = 1.0) -> Iterator[Callable[[float, str], None]]:
    """A progress bar. Call the yielded function with the amount of work done, up to `total`, and a text beside the bar."""
    with tqdm(total=total, bar_format=LAYOUT) as bar:

        def show(done: float, words: str) -> None:
            if not bar.n and done < total:
                bar.initial = done  # a resumed run: the estimate of the remaining time must leave out earlier work
            bar.n = done
            bar.set_postfix_str(words)

        yield show


def made(making: Making[C]) -> C:
    """Run a generator of `dcp_core.making` under a progress bar, and return what it made."""
    with progress_bar() as show:

        def report(progress: Progress) -> None:
            show(progress.fraction, progress.words)

        return finish(making, report)
