# The server in a container: docker build -t echostr .

FROM rust:1-slim-bookworm AS build
WORKDIR /build
COPY . .
# The cache mounts keep dependencies between builds. `touch`: a cached artefact may be newer than a file that has
# changed since, as after changing branches.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    touch src/lib.rs src/main.rs crates/*/src/lib.rs \
    && cargo build --profile dist --locked --features queues,otlp --bin echostr \
    && cp target/dist/echostr /echostr

# Debian rather than distroless: its registry can be reached, or is mirrored, wherever the platforms are used.
FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="echostr" \
      org.opencontainers.image.description="Receives the callbacks of WeChat, WeCom and Tencent IM" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /echostr /usr/local/bin/echostr
# The journal is in `data`: mount a volume there, or what is acknowledged is gone with the container.
RUN install -d -o 65532 -g 65532 /var/lib/echostr/data
WORKDIR /var/lib/echostr
# Explicit, so that nothing depends on the working directory.
ENV ECHOSTR_CONFIG=/etc/echostr/echostr.toml
# Numeric, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["echostr", "health"]
# SIGTERM, the default, makes it finish what is in work.
ENTRYPOINT ["echostr"]
CMD ["serve"]
