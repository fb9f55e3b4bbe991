"""The library of blueprints: one `.esp` file each, read through `esper.resources`.

Every one compiles without arguments, and its `##` documentation is what `esperc templates` shows.
"""
