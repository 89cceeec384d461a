# The image of a release: the static programs of the release, for each architecture. See .github/workflows/release.yml; the
# Dockerfile at the root builds from the sources.

FROM debian:bookworm-slim AS certificates
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates

FROM debian:bookworm-slim
ARG TARGETARCH
LABEL org.opencontainers.image.title="echostr" \
      org.opencontainers.image.description="Receives the callbacks of WeChat, WeCom and Tencent IM" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --chmod=755 ${TARGETARCH}/echostr /usr/local/bin/echostr
# The same as in the Dockerfile at the root.
RUN install -d -o 65532 -g 65532 /var/lib/echostr/data
WORKDIR /var/lib/echostr
ENV ECHOSTR_CONFIG=/etc/echostr/echostr.toml
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["echostr", "health"]
ENTRYPOINT ["echostr"]
CMD ["serve"]
