"""A reader's answers to the exercises, checked: what is wrong is said, and what is right is not.

- ``check``: one answer, one verdict
- ``answers``: what an answer may be
- ``attacking``: chapters 1 to 4
- ``aligning``: chapters 5 to 8
- ``judging``: chapters 9 to 13, and 15
- ``defences``: three defences to break, and their grader (chapter 14)
"""

from .check import KEYS as KEYS
from .check import Verdict as Verdict
from .check import check as check
