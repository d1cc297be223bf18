# The gateway and the shop's services, one image: /sluice and /shop are static
# binaries and need nothing else.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/ ./gateway/cmd/sluice ./services/cmd/shop
RUN mkdir -p /out/data /out/tmp && chmod 700 /out/data

FROM scratch
# The authorities that may sign the certificates of issuers and services.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/sluice /out/shop /
# The user is nobody in particular, and owns only these.
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/tmp /tmp
COPY --from=build --chown=65532:65532 /out/tmp /keys
USER 65532:65532
ENV SLUICE_DATA_DIR=/data
VOLUME /data
# HTTP, gRPC. The admin listener is on loopback unless configured otherwise.
EXPOSE 8080 9090
ENTRYPOINT ["/sluice"]
CMD ["serve"]
