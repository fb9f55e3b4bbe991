"""The two programs: `esperc`, the compiler, and `esper`, growth. Commands hold no logic.

`program.py` is the floor both stand on; `esperc.py` and `esper.py` are tables of commands; every other
file is one command, or what one command shows. Nothing below imports from here.
"""
