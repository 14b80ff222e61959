"""A process that stands still, from the moment at which it does."""

import os
import signal


def stand_still(pid: int) -> None:
    """Stop a child, and return once no thread of it runs any more.

    A signal only asks for that: on a busy machine other threads go on for a while, and answer.
    """
    os.kill(pid, signal.SIGSTOP)
    state = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert state is not None
    assert state.si_code == os.CLD_STOPPED, "it has ended"


def go_on(pid: int) -> None:
    """Let it run again."""
    os.kill(pid, signal.SIGCONT)
