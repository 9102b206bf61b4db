"""The teacher-student paper: two-layer networks, ensembles of ResNets and wide ResNets."""
