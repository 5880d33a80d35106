from tests.cluster.leftovers import without_chains

SAVED = """\
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SEP-ABCDEF0123456789 - [0:0]
:CNI-0123456789abcdef01234567 - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \\"onggi\\"" -j CNI-0123456789abcdef01234567
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -j KUBE-SEP-ABCDEF0123456789
COMMIT
"""


def test_only_the_cluster_s_chains_go() -> None:
    assert without_chains(SAVED) == (
        "*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n"
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\nCOMMIT\n"
    )


def test_a_machine_without_a_cluster_stays_as_it_is() -> None:
    rules = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n"

    assert without_chains(rules) == rules
