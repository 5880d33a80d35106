"""etcd, the API server and the controllers, with the certificates that kubeadm makes for them."""

from tests.cluster.commands import kubectl, run, succeeds
from tests.cluster.daemons import Daemons
from tests.cluster.place import (
    API_PORT,
    KUBERNETES,
    NODE,
    NODE_ADDRESS,
    POD_RANGE,
    SERVICE_RANGE,
    Place,
)

ETCD = "http://127.0.0.1:2379"
KUBECONFIGS = ("super-admin", "controller-manager", "scheduler", "kubelet")
DOMAIN = "cluster.local"
KUBEADM = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: {address}, bindPort: {port}}}
nodeRegistration: {{name: {node}, criSocket: "unix://{containerd}"}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {version}
certificatesDir: {pki}
controlPlaneEndpoint: "{address}:{port}"
networking: {{serviceSubnet: {services}, podSubnet: {pods}, dnsDomain: {domain}}}
"""
# Who the API server is towards kubelet; `kubeadm init` binds it likewise.
KUBELET_CLIENT = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "kubeadm:apiserver-kubelet-client"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:kubelet-api-admin"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: kube-apiserver-kubelet-client}]
"""


def certificates(place: Place) -> None:
    """Make what is missing of the certificates, and a kubeconfig for each component and the administrator."""
    if place.kubeconfig.exists():  # it is written last
        return
    place.pki.mkdir(parents=True, exist_ok=True)
    config = place.pki / "kubeadm.yaml"
    config.write_text(
        KUBEADM.format(
            address=NODE_ADDRESS, port=API_PORT, node=NODE, containerd=place.containerd, version=KUBERNETES,
            pki=place.pki, services=SERVICE_RANGE, pods=POD_RANGE, domain=DOMAIN,
        )
    )  # fmt: skip
    kubeadm = str(place.bin / "kubeadm")
    run([kubeadm, "init", "phase", "certs", "all", "--config", str(config)])
    for name in KUBECONFIGS:
        run([kubeadm, "init", "phase", "kubeconfig", name, "--config", str(config),
             "--kubeconfig-dir", str(place.pki)])  # fmt: skip
    proxy = place.pki / "kube-proxy.conf"
    if not proxy.exists():
        user = "--client-name=system:kube-proxy"
        proxy.write_text(run([kubeadm, "kubeconfig", "user", "--config", str(config), user]))
    partial = place.kubeconfig.with_suffix(".part")
    partial.touch(0o600)
    partial.write_text((place.pki / "super-admin.conf").read_text())
    partial.rename(place.kubeconfig)


def up(place: Place, daemons: Daemons) -> None:
    """Start the control plane and return when the API server is ready."""
    daemons.run("etcd", *_etcd(place))
    daemons.run("kube-apiserver", *_api_server(place))
    kubectl_, ask = str(place.bin / "kubectl"), ["get", "--raw", "/readyz"]
    kubeconfig = {"KUBECONFIG": str(place.kubeconfig)}
    daemons.ready("kube-apiserver", lambda: succeeds([kubectl_, *ask], **kubeconfig), patience=180)
    daemons.run("kube-controller-manager", *_controller_manager(place))
    daemons.run("kube-scheduler", *_scheduler(place))
    kubectl(place, "apply", "--server-side", "-f", "-", text=KUBELET_CLIENT)


def _etcd(place: Place) -> list[str]:
    peer = "http://127.0.0.1:2380"
    return [
        str(place.bin / "etcd"),
        f"--data-dir={place.state / 'etcd'}",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # a machine that crashes loses its cluster, and nothing waits for the disk
        "--log-level=warn",
    ]


def _api_server(place: Place) -> list[str]:
    pki = place.pki
    return [
        str(place.bin / "kube-apiserver"),
        f"--etcd-servers={ETCD}",
        f"--advertise-address={NODE_ADDRESS}",
        f"--bind-address={NODE_ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        "--enable-aggregator-routing=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
    ]


def _controller_manager(place: Place) -> list[str]:
    kubeconfig = place.pki / "controller-manager.conf"
    return [
        str(place.bin / "kube-controller-manager"),
        *_credentials(str(kubeconfig)),
        f"--service-account-private-key-file={place.pki / 'sa.key'}",
        f"--root-ca-file={place.pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={place.pki / 'ca.crt'}",
        f"--cluster-signing-key-file={place.pki / 'ca.key'}",
        "--use-service-account-credentials=true",
        "--horizontal-pod-autoscaler-sync-period=5s",
    ]


def _scheduler(place: Place) -> list[str]:
    return [str(place.bin / "kube-scheduler"), *_credentials(str(place.pki / "scheduler.conf"))]


def _credentials(kubeconfig: str) -> list[str]:
    flags = [f"--{use}kubeconfig={kubeconfig}" for use in ("", "authentication-", "authorization-")]
    return [*flags, "--bind-address=127.0.0.1", "--leader-elect=false"]
