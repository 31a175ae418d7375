# syntax=docker/dockerfile:1
# Two images of arctos. Each is also a base for the image of an application: src/guide/install.md shows how.
#
#   docker build --tag arctos .                          Debian with Python and pip
#   docker build --tag arctos --target distroless .      Python and arctos alone, without a shell or a package manager

ARG PYTHON=3.14

FROM rust:1-slim-trixie AS rust

FROM python:${PYTHON}-slim-trixie AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:/usr/local/bin:/usr/bin:/bin
WORKDIR /build
COPY scripts/requirements.txt scripts/
RUN pip install --no-cache-dir --requirement scripts/requirements.txt
COPY . .
RUN scripts/wheel /wheels

FROM python:${PYTHON}-slim-trixie AS slim-files
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index /wheels/arctos-*.whl
# A number above those of Debian's users. The code in /app belongs to root, so that a request cannot change it.
RUN groupadd --gid 10001 arctos \
    && useradd --uid 10001 --gid 10001 --home-dir /app --no-create-home --shell /usr/sbin/nologin arctos \
    && install --directory /app \
    && install --directory --owner=10001 --group=10001 /run/arctos

FROM slim-files AS distroless-files
RUN --mount=type=bind,source=scripts,target=/scripts /scripts/distroless /files

FROM scratch AS distroless
COPY --from=distroless-files /files /
# Every option can also be set with `docker run --env ARCTOS_...`. The admin port is for probes, and read-only.
ENV PATH=/usr/local/bin LANG=C.UTF-8 ARCTOS_BIND=:8000 ARCTOS_ADMIN_BIND=unix:/run/arctos/admin.sock,:9000
WORKDIR /app
USER 10001:10001
EXPOSE 8000 9000
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["arctos", "ctl", "ready"]
ENTRYPOINT ["arctos"]
CMD ["--help"]

FROM slim-files AS slim
ENV LANG=C.UTF-8 ARCTOS_BIND=:8000 ARCTOS_ADMIN_BIND=unix:/run/arctos/admin.sock,:9000
WORKDIR /app
USER 10001:10001
EXPOSE 8000 9000
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["arctos", "ctl", "ready"]
ENTRYPOINT ["arctos"]
CMD ["--help"]
