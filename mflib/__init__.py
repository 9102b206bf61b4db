"""The mean-field theory of deep residual networks, checked by computation.

==================  ====================================================================
``mflib.*``         the objects: measures, blocks, flows and adjoints, problems, optimal
                    transport, kernels, Gram matrices, KL divergence, Rademacher complexity
``mflib.lu2020``    Lu et al. 2020: the mean-field ODE, its landscape, Algorithm 1
``mflib.chen2024``  Chen et al. 2024: the scaled network, its training, generalisation
``mflib.cifar``     the trainer of the CIFAR table; needs torch and numpy alone
``mflib.claims``    predictions, measurements, controls, verdicts; knows numbers only
``mflib.book``      chapters, their runs, the ledger, figures, pages, the command line
==================  ====================================================================

Import what you need from its module; importing the package itself imports nothing else.
A chapter uses its paper's room, a room uses the objects, and nothing points back.
"""

__version__ = "0.1.0"
