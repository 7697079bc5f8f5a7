"""What merge methods are composed of: a *delta*, a *mask*, a *consensus* and a *scale*.

Each part is one small idea with its own tests; a method in a family file says in a few lines which parts it
takes. Parts know nothing of each other's callers and hold no state beyond one survey.
"""
