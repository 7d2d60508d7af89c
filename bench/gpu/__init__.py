"""Images per second on the device at hand, each figure beside what it could be at best.

__main__.py    the command line: which workloads, how long
supervisor.py  a process for each workload, watched: a part that hangs or takes the process down costs itself alone
measuring.py   that process: part after part, figures written as they come
parts.py       what is measured of a workload, and how long it may take
options.py     the ways to be quicker that are compared
ceilings.py    what the device multiplies and copies at best
flops.py       what a picture costs at least
figures.py     a figure, and the file of all of them
report.py      lines to read and to paste
"""
