"""A real Kubernetes for the tests: kind where Docker runs, else one made of this machine.

make cluster                                # everything
python -m tests.cluster up                  # without monitoring and fleet
python -m tests.cluster add monitoring      # prometheus-operator and its CRDs, later
python -m tests.cluster gpus 2 --ill 1      # two cards, one of them failing
make cluster-down
"""
