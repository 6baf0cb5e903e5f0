# Builder and image are the same Debian release: a binary runs with no older glibc than it was linked with.

FROM rust:1-bookworm AS builder
WORKDIR /build
COPY . .
RUN cargo build --release --locked --package portcullis

FROM debian:bookworm-slim
# The roots for backends with `verify: system`.
COPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=builder /build/LICENSE-MIT /build/LICENSE-APACHE /usr/share/doc/portcullis/
COPY --from=builder /build/target/release/portcullis /usr/local/bin/portcullis

# A number, since Kubernetes cannot tell from a name that a user is not root (runAsNonRoot).
USER 65532:65532

# Explicit TLS, implicit TLS, passive data connections, admin endpoint. Docker and Podman let any user of a container
# listen on ports below 1024; elsewhere set the sysctl net.ipv4.ip_unprivileged_port_start=0, or listen on higher ports.
EXPOSE 21 990 30000-30063 9190

# SIGTERM drains: give the container longer than `timeouts.drain` to stop (docker run --stop-timeout 330).
STOPSIGNAL SIGTERM

# Asks the admin endpoint, at its default address. The shell's own TCP saves a program that could fetch more than this.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9190 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r answer <&3 && [[ $answer == *' 200 '* ]]"]

ENTRYPOINT ["/usr/local/bin/portcullis"]
CMD ["run", "--config", "/etc/portcullis/portcullis.yaml"]
