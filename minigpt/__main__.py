"""The command, `minigpt` or `python -m minigpt`."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command. Ctrl-C ends it without a traceback, while it is imported too."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from minigpt.cli import main as run

    signal.signal(signal.SIGINT, usual)
    run()


if __name__ == "__main__":
    main()
