# The image of a node. It builds with plain "docker build .", with BuildKit and without.
#
# The base has glibc and libcrypto, by which a node signs three times as fast as by Go alone. Other images may take the
# place of both.
ARG GO_IMAGE=golang:1.26-trixie
ARG BASE_IMAGE=debian:trixie-slim

FROM ${GO_IMAGE} AS build
# Where Go gets modules from, if not from where it does by itself.
ARG GOPROXY
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# What "postrider version" and inboxes are told, such as v1.2.3.
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -o /out/ \
        -ldflags "-s -w -X github.com/postrider/postrider/internal/config.linked=$VERSION" . ./examples/fediverse && \
    mkdir /out/data && cp -L /etc/ssl/certs/ca-certificates.crt /out/

# What the demo profile of docker-compose.yml posts from and delivers to.
FROM ${BASE_IMAGE} AS fediverse
COPY --from=build /out/fediverse /usr/local/bin/fediverse
USER 65532:65532
ENTRYPOINT ["fediverse"]

FROM ${BASE_IMAGE} AS node
COPY --from=build /out/postrider /usr/local/bin/postrider
COPY --from=build /out/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
# A base without libcrypto 3 ends the build here, instead of making a slow node.
RUN ["postrider", "--signing=openssl", "version"]
# Others than this container can reach the address, so a node does not start on it without POSTRIDER_API_TOKENS.
ENV POSTRIDER_LISTEN=0.0.0.0:8080 POSTRIDER_STORE=embedded:/data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# Unhealthy is a node that can't work just now. Docker does not restart it, and that would not help either.
HEALTHCHECK --interval=10s --timeout=8s --start-period=30s --retries=3 CMD ["postrider", "healthcheck"]
ENTRYPOINT ["postrider"]
