"""When findings become an opinion: so many in a row, and not before.

A probe that finds what is known already starts the count anew; so does one that differs from it in
the other direction.  Pure.
"""

from waypost.checks import SEVERITIES, Check, CheckStatus


def judge(check: Check, known: CheckStatus, found: CheckStatus, streak: int) -> tuple[bool, int]:
    """Tell whether the status should change to what was found, and the new streak.

    The streak counts findings better than what is known, or worse ones as a negative number.
    """
    if found == known:
        return False, 0
    if SEVERITIES[found] > SEVERITIES[known]:
        streak = min(streak, 0) - 1
        return -streak >= check.down_after, streak
    streak = max(streak, 0) + 1
    return streak >= check.up_after, streak
