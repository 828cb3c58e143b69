"""Units of time as numbers, for code that counts in integers.

Arrow and the engines keep times as microseconds. What is a month is in `months.py`, what is a window in `windows.py`.
"""

SECONDS_PER_DAY = 86_400
MICROSECONDS_PER_DAY = SECONDS_PER_DAY * 1_000_000
MICROSECONDS_PER_HOUR = MICROSECONDS_PER_DAY // 24
