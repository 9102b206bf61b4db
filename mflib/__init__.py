"""The mean-field theory of deep residual networks, checked by computation.

Import what you need from its modules: :mod:`mflib.measures`, :mod:`mflib.blocks`,
:mod:`mflib.ode`, :mod:`mflib.landscape`, :mod:`mflib.claims` and so on. Importing the
package itself imports nothing else.
"""

__version__ = "0.1.0"
