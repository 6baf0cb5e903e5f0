# The image has the program, the libraries that it is linked with, the certificates of authorities, and nothing else: no shell,
# no package manager.

# `make image` has another directory in the place of this stage, filled from a binary that is there already.
FROM rust:1-bookworm AS builder
WORKDIR /build
COPY . .
RUN cargo build --release --locked --package portcullis --features pfx && deploy/image/rootfs.sh target/release/portcullis /rootfs

FROM scratch
COPY --from=builder /rootfs /

# A number, since Kubernetes cannot tell from a name that a user is not root (runAsNonRoot).
USER 65532:65532

# Explicit TLS, implicit TLS, passive data connections, admin endpoint. Docker and Podman let any user of a container
# listen on ports below 1024; elsewhere set the sysctl net.ipv4.ip_unprivileged_port_start=0, or listen on higher ports.
EXPOSE 21 990 30000-30063 9190

# SIGTERM drains: give the container longer than `timeouts.drain` to stop (docker run --stop-timeout 330).
STOPSIGNAL SIGTERM

# Asks the admin endpoint, at its default address: where `admin.address` has another port, name it by --address.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/local/bin/portcullis", "health"]

ENTRYPOINT ["/usr/local/bin/portcullis"]
CMD ["run", "--config", "/etc/portcullis/portcullis.yaml"]
