"""A process that mpiexec started: one is named that was killed, and read is what each one said."""

import ctypes
import os
import signal
import sys
import time
from array import array
from contextlib import suppress
from fcntl import ioctl
from stat import S_ISFIFO
from termios import FIONREAD


def watched() -> None:
    """Goes on in a child of this process, which waits for it, and speaks for it if it is killed.

    Who is killed can say nothing, and mpiexec would say eleven lines that name no rank. The parent
    asks mpiexec, in the words of its protocol (PMI), to end all. Other launchers go without. It
    is to be called before this program starts a thread, and before MPI is begun.
    """
    if "PMI_FD" not in os.environ:
        return
    parent = os.getpid()
    child = os.fork()
    if not child:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:  # it has ended already
                os._exit(1)
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what is asked of both, the child does
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(OSError):  # mpiexec has ended all already
        if status < 0:
            named = [one.name for one in signal.Signals if one == -status]
            by = named[0] if named else f"signal {-status}"
            print(f"minigpt: rank {os.environ['PMI_RANK']} was ended by {by}", file=sys.stderr)
            said()
            status = 128 - status
        if status:
            os.write(int(os.environ["PMI_FD"]), f"cmd=abort exitcode={status}\n".encode())
    os._exit(status)


def said() -> None:
    """Waits until what this process said is read: mpiexec drops the rest when it ends all."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        waiting, end = array("i", [1]), time.monotonic() + 1
        if S_ISFIFO(os.fstat(stream.fileno()).st_mode):
            while waiting[0] and time.monotonic() < end:
                ioctl(stream.fileno(), FIONREAD, waiting)
                time.sleep(0.01)
