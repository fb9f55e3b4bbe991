"""The space of a search: what a blueprint lets vary, and the ways from one point of it to others.

A point gives each parameter of the space a value that JSON can hold. It knows the language, but neither what
a point costs nor which algorithm asks for it.
"""

from esper.tezzeret.space.domains import Domain
from esper.tezzeret.space.space import Point, Space, space_of

__all__ = ["Domain", "Point", "Space", "space_of"]
