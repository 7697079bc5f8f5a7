"""What a node shows on a connection, and what it demands to see.

A server demands a leaf of the federation's authority, which keeps strangers out of the handshake. A client
demands the exact leaf that it expects: the leaf itself is its only trusted root.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from crdtmerge.digest import Digest
from crdtmerge.keys import SigningKey
from crdtmerge.node import certificate, identity
from crdtmerge.node.certificate import Authority
from crdtmerge.op import Operation


@dataclass(frozen=True, slots=True)
class Credentials:
    """One node's side of every TLS connection."""

    federation: Digest
    leaf: bytes
    """This node's certificate, DER: what its record tells others to pin."""
    tls_key_pem: bytes = field(repr=False)
    ca_pem: bytes = field(repr=False)

    @staticmethod
    def make(key: SigningKey, *, tls_secret: bytes, ca_secret: bytes, federation: Digest) -> Credentials:
        """Return the credentials that follow from the secrets."""
        authority = Authority(federation, ca_secret)
        tls = identity.p256(tls_secret)
        return Credentials(
            federation, authority.issue(key, tls.public_key()), identity.pem(tls), authority.pem
        )

    @staticmethod
    def load(home: Path, genesis: Operation) -> Credentials:
        """Return the credentials of ``home``, making its TLS key if there is none.

        The federation's CA secret is drawn by the node that signed the genesis; all others get it by ticket.

        Raises:
            UsageError: if the home lacks an identity, or did not join yet.
        """
        key = identity.signing_key(home)
        founded = genesis.author == key.id
        return Credentials.make(
            key,
            tls_secret=identity.create_tls_secret(home),
            ca_secret=identity.create_ca_secret(home) if founded else identity.ca_secret(home),
            federation=genesis.id,
        )

    def server(self) -> grpc.ServerCredentials:
        """Return what a server socket needs."""
        return grpc.ssl_server_credentials(
            [(self.tls_key_pem, certificate.leaf_pem(self.leaf))],
            root_certificates=self.ca_pem,
            require_client_auth=True,
        )

    def client(self, leaf: bytes) -> grpc.ChannelCredentials:
        """Return what a connection to the holder of ``leaf``, and to nobody else, needs."""
        return grpc.ssl_channel_credentials(
            root_certificates=certificate.leaf_pem(leaf),
            private_key=self.tls_key_pem,
            certificate_chain=certificate.leaf_pem(self.leaf),
        )
