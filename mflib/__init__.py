"""The mean-field theory of deep residual networks, checked by computation.

=========================  ============================================================
``mflib.*``                the objects: measures, blocks, flows and adjoints, problems,
                           optimal transport, kernels, Gram matrices, KL, Rademacher
``mflib.teacher_student``  two-layer networks as fluids, ensembles, wide networks
``mflib.lu2020``           the mean-field ODE, its landscape, Algorithm 1
``mflib.fang2021``         neural feature flow: networks by the law of their features
``mflib.chen2024``         the scaled network, its training, generalisation
``mflib.beyond``           what newer works ask: shapes, scalings, depth in training
``mflib.cifar``            the trainer of the CIFAR table; needs torch and numpy alone
``mflib.claims``           predictions, measurements, controls, verdicts; only numbers
``mflib.book``             chapters, their runs, the ledger, figures, pages, command
=========================  ============================================================

Import what you need from its module; importing the package itself imports nothing else.
A chapter uses its paper's room, a room uses the objects, and nothing points back.
"""

__version__ = "0.1.0"
